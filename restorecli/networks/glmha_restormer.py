"""GLMHA-Restormer: guided low-rank multi-head self-attention inside Restormer.

GLMHA: Guided Low-rank Multi-Head Self-Attention for Efficient Image Restoration and Spectral
Reconstruction (Ilyas et al., arXiv 2410.00380). The query keeps all channels; key and value keep a
share of them, made from features that a small calibration network has scaled.

No code was published, and the paper's tables cannot all come from one network, so two presets:
``text`` follows the text (every block), ``table`` is nearest to the printed budget (encoder and
decoder only). ``csa`` is plain Restormer.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restorecli.networks.restormer import ChannelAttention, Restormer, attend

EVERY_STAGE = frozenset(Restormer.LEVELS)
PRESETS = {  # preset: (stages with low-rank attention, size of the calibration kernel)
    "text": (EVERY_STAGE, 3),
    "table": (EVERY_STAGE - {"latent", "refinement"}, 7),
    "csa": (frozenset[str](), 3),
}


class Calibration(nn.Module):
    """How much each channel matters, in (−1, 1): A = tanh(Lin(GELU(DW(maxpool(q))))).

    GLMHA, Eq. 3–4. The maxima of a k×k grid over the plane meet one k×k kernel per channel; one
    linear map of size c×c, without bias, serves all heads.

    Shape:
        q: (B, C, H, W) → (B, C).
    """

    def __init__(self, channels: int, heads: int, kernel: int) -> None:
        super().__init__()
        self.heads = heads
        self.kernel = kernel
        self.dwconv = nn.Conv2d(channels, channels, kernel, groups=channels, bias=False)
        self.linear = nn.Linear(channels // heads, channels // heads, bias=False)

    def forward(self, q: Tensor) -> Tensor:
        """Weigh the channels of ``q`` (B, C, H, W) → (B, C)."""
        return self.from_maxima(grid_maxima(q, self.kernel))

    def from_maxima(self, maxima: Tensor) -> Tensor:
        """The same from pooled maxima (B, C, k, k) → (B, C)."""
        pooled = F.gelu(self.dwconv(maxima)).flatten(1)  # (B, C)
        by_head = pooled.reshape(len(pooled), self.heads, -1)  # (B, heads, c)
        return torch.tanh(self.linear(by_head)).flatten(1)  # (B, C)


def grid_maxima(x: Tensor, cells: int) -> Tensor:
    """Adaptive max pooling: the maximum of each cell of a ``cells``×``cells`` grid.

    Written as plain maxima because not every device pools sizes that do not divide.

    Shape:
        x: (B, C, H, W) → (B, C, cells, cells).
    """
    for axis in (2, 3):
        x = cell_maxima(x, cells, axis)
    return x


def cell_maxima(x: Tensor, cells: int, axis: int) -> Tensor:
    """The maximum of each cell along one axis: (B, C, H, W) → that axis ``cells`` long."""
    lines = [
        x.narrow(axis, start, stop - start).amax(axis, keepdim=True)
        for start, stop in grid_cells(x.shape[axis], cells)
    ]
    return torch.cat(lines, axis)


def grid_cells(length: int, cells: int) -> list[tuple[int, int]]:
    """Cell i covers ⌊i·length/cells⌋ … ⌈(i+1)·length/cells⌉, so neighbours may share a line."""
    return [(i * length // cells, -(-(i + 1) * length // cells)) for i in range(cells)]


class GuidedLowRankAttention(nn.Module):
    """Channel attention with fewer keys and values, guided by the query.

    GLMHA, Eq. 3–7: k, v = DW(W_KV(x·(1 + αA))), C' = heads·round(C/heads·(1−ratio)) rows each.

    Shape:
        x: (B, C, H, W), any float dtype → (B, C, H, W), same dtype.
    """

    def __init__(
        self, channels: int, heads: int, *, ratio: float, alpha: float, kernel: int, bias: bool
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels ({channels}) must be a multiple of heads ({heads})")
        self.heads = heads
        self.alpha = alpha
        kept = heads * max(1, round(channels // heads * (1 - ratio)))
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.q = nn.Conv2d(channels, channels, 1, bias=bias)
        self.q_dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=bias)
        self.calibration = Calibration(channels, heads, kernel)
        self.kv = nn.Conv2d(channels, 2 * kept, 1, bias=bias)
        self.kv_dwconv = nn.Conv2d(2 * kept, 2 * kept, 3, padding=1, groups=2 * kept, bias=bias)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of ``x`` (B, C, H, W) → (B, C, H, W)."""
        q = self.q_dwconv(self.q(x))  # (B, C, H, W)
        scale = 1 + self.alpha * self.calibration(q)  # (B, C)
        k, v = self.kv_dwconv(self.kv(x * scale[..., None, None])).chunk(2, dim=1)  # (B, C', H, W)
        return self.project_out(attend(q, k, v, self.temperature, self.heads))


class GLMHARestormer(Restormer):
    """Restormer with guided low-rank attention; options of Restormer, and four of its own.

    Args:
        preset: ``text`` (all blocks, k = 3), ``table`` (encoder and decoder, k = 7) or ``csa``.
        ratio: Share of key and value channels that is left out, in [0, 1).
        alpha: Strength of the calibration, fixed at 0.6 in the paper.
        kernel: Grid and kernel size of the calibration; the preset's own when ``None``.
        options: Those of ``Restormer``.

    Shape:
        x: (B, inp_channels, H, W), nominally [0, 1] → (B, out_channels, H, W), not clamped.
    """

    def __init__(
        self,
        *,
        preset: str = "text",
        ratio: float = 0.5,
        alpha: float = 0.6,
        kernel: int | None = None,
        **options: Any,
    ) -> None:
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {tuple(PRESETS)}, got {preset!r}")
        if not 0 <= ratio < 1:
            raise ValueError(f"ratio must be in [0, 1), got {ratio}")
        stages, preset_kernel = PRESETS[preset]
        self._low_rank_stages = stages
        self._ratio, self._alpha, self._kernel = ratio, alpha, kernel or preset_kernel
        super().__init__(**options)

    def _attention(self, stage: str, channels: int, heads: int, *, bias: bool) -> nn.Module:
        """Attention of one block of ``stage``: (B, C, H, W) → (B, C, H, W)."""
        if stage not in self._low_rank_stages:
            return ChannelAttention(channels, heads, bias=bias)
        return GuidedLowRankAttention(
            channels,
            heads,
            ratio=self._ratio,
            alpha=self._alpha,
            kernel=self._kernel,
            bias=bias,
        )
