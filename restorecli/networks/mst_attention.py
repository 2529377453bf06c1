"""Channel attention of MST++ and MST: spectra attend to spectra, with and without a mask.

Mask-guided Spectral-wise Transformer (Cai et al., CVPR 2022) and MST++ (Cai et al., CVPRW 2022).
Beside it, GLMHA (Ilyas et al., arXiv 2410.00380, Eq. 3-7) in the same place: no code was published
for it, and what the paper leaves open is a named option here. Parameter names are those of the
published checkpoints; features are B×C×H×W, H and W in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restorecli.networks.glmha_restormer import Calibration
from restorecli.networks.restormer import attend

BAND_STEP_PX = 2  # columns by which a CASSI shifts one band against the one before
KINDS = ("csa", "glmha")
PRESETS = {"text": 0.5, "table": 0.25, "csa": 0.0}  # share of the keys and values left out
POSITIONS = ("input", "query", "value")

Core = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionChoice:
    """Which attention the blocks of a network have.

    Args:
        kind: ``csa``, the published one, or ``glmha``.
        ratio: Of GLMHA: share of key and value channels that is left out, in [0, 1).
        alpha: Of GLMHA: strength of the calibration, fixed at 0.6 in the paper.
        kernel: Of GLMHA: grid and kernel size of the calibration.
        position: Of GLMHA: what the position branch reads. The paper does not say, and the values
            have too few channels: ``input`` (the block's own), ``query``, or the kept channels of
            ``value`` alone.
    """

    kind: str = "csa"
    ratio: float = 0.5
    alpha: float = 0.6
    kernel: int = 3
    position: str = "input"

    @classmethod
    def of(
        cls,
        attention: str = "csa",
        preset: str = "text",
        ratio: float | None = None,
        kernel: int = 3,
        position: str = "input",
    ) -> AttentionChoice:
        """The choice from a network's options; ``ratio`` overrules that of the preset.

        Raises:
            ValueError: An unknown name, or a ratio outside [0, 1).
        """
        for name, value, known in (
            ("attention", attention, KINDS),
            ("preset", preset, tuple(PRESETS)),
            ("position", position, POSITIONS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, got {value!r}")
        share = PRESETS[preset] if ratio is None else ratio
        if not 0 <= share < 1:
            raise ValueError(f"ratio must be in [0, 1), got {share}")
        kind = "csa" if preset == "csa" else attention
        return cls(kind=kind, ratio=share, kernel=kernel, position=position)


def by_pixel(linear: nn.Linear, x: Tensor) -> Tensor:
    """A linear map of the channels of every pixel: (B, C, H, W) → (B, K, H, W)."""
    return linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def position_branch(channels: int) -> nn.Sequential:
    """3×3 on each channel alone, GELU, again 3×3: (B, C, H, W) → (B, C, H, W)."""
    first, second = (
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False) for _ in range(2)
    )
    return nn.Sequential(first, nn.GELU(), second)


class MaskGuide(nn.Module):
    """What a coded mask lets through, as a weight of every value (MST, section 3.2).

    e = a·(1 + σ(DW5×5(W2·a))), a = W1·m. With ``shrink``, channel i then moves back by
    ⌊2i/shrink⌋ columns, because the mask features are as wide as the dispersed measurement.

    The published code takes the shift and the width from the number 256, so it is right for
    256×256 pixels only; here they come from the level and the width of the scene.

    Shape:
        mask: (1 or B, C, H, W') → (1 or B, C, H, W).
    """

    def __init__(self, channels: int, shrink: int | None) -> None:
        super().__init__()
        self.shrink = shrink
        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 1)
        self.depth_conv = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)

    def forward(self, mask: Tensor, width: int) -> Tensor:
        """Weights for values ``width`` pixels wide: (B, C, H, W') → (B, C, H, W)."""
        a = self.conv1(mask)
        e = a * (1 + torch.sigmoid(self.depth_conv(self.conv2(a))))
        if self.shrink is None:
            return e
        return shifted_back(e, width, self.shrink)


def shifted_back(x: Tensor, width: int, shrink: int = 1) -> Tensor:
    """Channel i of ``x`` from column ⌊2i/shrink⌋ on: (B, C, H, W') → (B, C, H, W)."""
    return torch.stack(
        [x[:, i, :, start : start + width] for i, start in enumerate(shifts(x.shape[1], shrink))],
        1,
    )


def shifts(bands: int, shrink: int = 1) -> list[int]:
    """First column of every band in a dispersed picture whose sides were divided by √shrink."""
    return [BAND_STEP_PX * band // shrink for band in range(bands)]


class SpectralAttention(nn.Module):
    """Attention between channels with a position branch (S-MSA).

    MST, Eq. 4-7: the rows of the score matrix come from ``to_k`` and its columns, over which the
    softmax goes, from ``to_q``: ``to_k`` plays the query of the usual formula.

    Shape:
        x: (B, C, H, W), any float dtype; mask: (1 or B, C, H, W'), only with a mask guide
        → (B, C, H, W), same dtype.
    """

    def __init__(
        self, channels: int, heads: int, *, guide: MaskGuide | None = None, core: Core = attend
    ) -> None:
        super().__init__()
        self.heads = heads
        self.rescale = nn.Parameter(torch.ones(heads, 1, 1))
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.proj = nn.Linear(channels, channels)
        self.pos_emb = position_branch(channels)
        if guide is not None:
            self.mm = guide
        self.core = core

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix the channels of ``x`` (B, C, H, W) → (B, C, H, W)."""
        q, k, v = (by_pixel(linear, x) for linear in (self.to_q, self.to_k, self.to_v))
        guided = v if mask is None else v * self.mm(mask, x.shape[-1])  # (B, C, H, W)
        y = self.core(k, q, guided, self.rescale, self.heads)
        return by_pixel(self.proj, y) + self.pos_emb(v)


class GuidedLowRankSpectralAttention(nn.Module):
    """GLMHA in the place of S-MSA: fewer keys and values, guided by the query.

    GLMHA, Eq. 3-7, without depth-wise kernels on q, k and v, as MST has none. The mask guide keeps
    all channels; a head's values meet the first of its own.

    Shape:
        x: (B, C, H, W), any float dtype; mask: (1 or B, C, H, W'), only with a mask guide
        → (B, C, H, W), same dtype.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        choice: AttentionChoice,
        *,
        guide: MaskGuide | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.alpha = choice.alpha
        self.position = choice.position
        per_head = channels // heads
        kept = max(1, round(per_head * (1 - choice.ratio)))
        self.kept_per_head = kept
        self.rescale = nn.Parameter(torch.ones(heads, 1, 1))
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, heads * kept, bias=False)
        self.to_v = nn.Linear(channels, heads * kept, bias=False)
        self.calibration = Calibration(channels, heads, choice.kernel)
        self.proj = nn.Linear(channels, channels)
        self.pos_emb = position_branch(heads * kept if self.position == "value" else channels)
        if guide is not None:
            self.mm = guide

    @property
    def kept(self) -> Tensor:
        """Which channels the values stand for, the first of every head: (C',), int64.

        Made when asked for: a buffer would have no numbers in a network that is built to be filled.
        """
        channels = torch.arange(self.to_q.in_features, device=self.rescale.device)
        return channels.unflatten(0, (self.heads, -1))[:, : self.kept_per_head].flatten()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix the channels of ``x`` (B, C, H, W) → (B, C, H, W)."""
        q = by_pixel(self.to_q, x)  # (B, C, H, W)
        scale = 1 + self.alpha * self.calibration(q)  # (B, C)
        scaled = x * scale[..., None, None]
        k, v = by_pixel(self.to_k, scaled), by_pixel(self.to_v, scaled)  # (B, C', H, W)
        guided = v if mask is None else v * self.mm(mask, x.shape[-1])[:, self.kept]
        y = by_pixel(self.proj, attend(q, k, guided, self.rescale, self.heads))  # (B, C, H, W)
        if self.position == "value":
            return y.index_add(1, self.kept, self.pos_emb(v))
        return y + self.pos_emb(x if self.position == "input" else q)


class SpectralFeedForward(nn.Module):
    """1×1 to four times the channels, GELU, 3×3 on each alone, GELU, 1×1 back; after a norm.

    Shape:
        x: (B, C, H, W), any float dtype → (B, C, H, W), same dtype.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.norm = nn.LayerNorm(channels)
        self.fn = nn.Module()  # published name: fn.net
        self.fn.net = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.GELU(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False),
            nn.GELU(),
            nn.Conv2d(wide, channels, 1, bias=False),
        )

    @property
    def net(self) -> nn.Sequential:
        """The layers after the norm."""
        net = self.fn.net
        assert isinstance(net, nn.Sequential)
        return net

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``x`` (B, C, H, W) → (B, C, H, W)."""
        rows = F.layer_norm(
            x.permute(0, 2, 3, 1), self.norm.normalized_shape, self.norm.weight, self.norm.bias
        )
        return self.net(rows.permute(0, 3, 1, 2))


class SpectralBlocks(nn.Module):
    """Some blocks in turn: attention, then feed-forward, each with a residual.

    Shape:
        x: (B, C, H, W); mask: (1 or B, C, H, W') or ``None`` → (B, C, H, W).
    """

    def __init__(self, attentions: list[nn.Module], channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList([attention, SpectralFeedForward(channels)]) for attention in attentions
        )

    def pairs(self) -> list[tuple[nn.Module, SpectralFeedForward]]:
        """Attention and feed-forward of every block."""
        return [tuple(block) for block in self.blocks]  # type: ignore[arg-type, misc]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Refine ``x`` (B, C, H, W) → (B, C, H, W)."""
        for attention, feed_forward in self.pairs():
            x = x + attention(x, mask)
            x = x + feed_forward(x)
        return x
