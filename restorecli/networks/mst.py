"""Spectra from pictures: MST++ and MST for RGB pictures, MST for snapshot compressive imaging.

MST++ (Cai et al., CVPRW 2022, NTIRE 2022 spectral reconstruction): RGB to 31 bands. MST (Cai et
al., CVPR 2022): 28 bands from one coded, dispersed picture (CASSI), and the variant of it that its
authors compare MST++ with. Parameter names are those of the published checkpoints; images are
B×C×H×W, H and W in pixels. Nothing is clamped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restorecli.networks.blocks import pad_to_multiple
from restorecli.networks.mst_attention import (
    BAND_STEP_PX,
    AttentionChoice,
    GuidedLowRankSpectralAttention,
    MaskGuide,
    SpectralAttention,
    SpectralBlocks,
    shifted_back,
    shifts,
)

LEVELS = 2  # times that the U halves the plane
SIDE_MULTIPLE_PX = 2**LEVELS
SLOPE = 0.1  # of the leaky ReLU after a first convolution
INITIAL_DEVIATION = 0.02  # of the linear maps of MST++


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """3×3 convolution, zero padding, no bias."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)


def halving(channels: int) -> nn.Conv2d:
    """4×4 convolution of stride 2: (B, C, H, W) → (B, 2C, H/2, W/2)."""
    return nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, bias=False)


def parts_of(layer: nn.Module) -> list[Any]:
    """What one level of the U holds, in the order of the published names 0, 1, 2."""
    assert isinstance(layer, nn.ModuleList)
    return list(layer)


class SpectralU(nn.Module):
    """The U that MST++ has several of and MST is one of: two levels down and up again.

    A subclass gives it its first convolution, so ``mapping`` and the parts are made by ``_build``
    in the order of the published files.

    Shape:
        features: (B, dim, H, W), H and W multiples of 4; mask: features of the mask, (1 or B, dim,
        H, W') or ``None`` → (B, dim, H, W).
    """

    def _build(
        self,
        dim: int,
        num_blocks: Sequence[int],
        choice: AttentionChoice,
        *,
        masked: bool = False,
        dispersed: bool = False,
    ) -> None:
        if len(num_blocks) != LEVELS + 1:
            raise ValueError(f"num_blocks needs {LEVELS + 1} values, got {len(num_blocks)}")

        def blocks(level: int) -> SpectralBlocks:
            channels, heads = dim * 2**level, 2**level
            attentions: list[nn.Module] = []
            for _ in range(num_blocks[level]):
                shrink = 4**level if dispersed else None
                guide = MaskGuide(channels, shrink) if masked else None
                attentions.append(
                    GuidedLowRankSpectralAttention(channels, heads, choice, guide=guide)
                    if choice.kind == "glmha"
                    else SpectralAttention(channels, heads, guide=guide)
                )
            return SpectralBlocks(attentions, channels)

        widths = [dim * 2**level for level in range(LEVELS)]
        self.encoder_layers = nn.ModuleList(
            nn.ModuleList([blocks(level), *(halving(width) for _ in range(2 if masked else 1))])
            for level, width in enumerate(widths)
        )
        self.bottleneck = blocks(LEVELS)
        self.decoder_layers = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.ConvTranspose2d(2 * widths[level], widths[level], 2, stride=2),
                    nn.Conv2d(2 * widths[level], widths[level], 1, bias=False),
                    blocks(level),
                ]
            )
            for level in reversed(range(LEVELS))
        )
        self.mapping = conv3x3(dim, dim)

    def forward_u(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Down and up again, without ``mapping``: (B, dim, H, W) → (B, dim, H, W)."""
        skips: list[tuple[Tensor, Tensor | None]] = []
        x = features
        for layer in self.encoder_layers:
            blocks, down, *mask_down = parts_of(layer)
            x = blocks(x, mask)
            skips.append((x, mask))
            x = down(x)  # (B, 2C, H/2, W/2)
            mask = None if mask is None else mask_down[0](mask)
        x = self.bottleneck(x, mask)
        for layer, (skip, skip_mask) in zip(self.decoder_layers, reversed(skips), strict=True):
            up, fuse, blocks = parts_of(layer)
            x = blocks(fuse(torch.cat([up(x), skip], 1)), skip_mask)
        return x


class SpectralStage(SpectralU):
    """One of the single-stage transformers of MST++ (SST).

    Shape:
        x: (B, dim, H, W), H and W multiples of 4 → (B, dim, H, W).
    """

    def __init__(self, dim: int, num_blocks: Sequence[int], choice: AttentionChoice) -> None:
        super().__init__()
        self.embedding = conv3x3(dim, dim)
        self._build(dim, num_blocks, choice)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``x`` (B, dim, H, W) → (B, dim, H, W)."""
        return self.mapping(self.forward_u(self.embedding(x))) + x


class MSTPlusPlus(nn.Module):
    """MST++: a spectrum for every pixel of an RGB picture.

    Args carry the published names. The first features are added to the result, so ``n_feat`` must
    equal ``out_channels``; the published network has 31 of both.

    Args:
        in_channels: Of the picture.
        out_channels: Bands.
        n_feat: Features, as many as bands.
        stage: How many U-shaped stages follow one another.
        attention: ``csa`` or ``glmha``.
        preset: Of GLMHA: ``text`` (ratio ½), ``table`` (¼) or ``csa`` (the published attention).
        ratio: Of GLMHA: share of key and value channels left out; the preset's when ``None``.
        kernel: Of GLMHA: grid and kernel size of the calibration.
        position: Of GLMHA: what the position branch reads, ``input``, ``query`` or ``value``.

    Shape:
        x: (B, in_channels, H, W), nominally [0, 1], any H and W from 1
        → (B, out_channels, H, W), same dtype, not clamped.
    """

    MULTIPLE_PX = 8  # as published, where 4 would do: the reflected pixels count

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 31,
        n_feat: int = 31,
        stage: int = 3,
        **attention_options: Any,
    ) -> None:
        super().__init__()
        if n_feat != out_channels:
            raise ValueError(f"n_feat must equal out_channels, got {n_feat} and {out_channels}")
        choice = AttentionChoice.of(**attention_options)
        self.conv_in = conv3x3(in_channels, n_feat)
        self.body = nn.Sequential(*(SpectralStage(n_feat, (1, 1, 1), choice) for _ in range(stage)))
        self.conv_out = conv3x3(n_feat, out_channels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INITIAL_DEVIATION)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct ``x`` (B, in_channels, H, W) → (B, out_channels, H, W)."""
        height, width = x.shape[-2:]
        first = self.conv_in(pad_to_multiple(x, self.MULTIPLE_PX))  # (B, n_feat, H', W')
        y = self.conv_out(self.body(first)) + first
        return y[..., :height, :width]


class MSTRGB(SpectralU):
    """MST for RGB pictures: as for CASSI, with features of the picture in the place of a mask.

    Args carry the published names; ``dim`` must equal ``out_channels``, and ``stage``, the levels
    of the U, must be 2. The attention's options are those of ``MSTPlusPlus``.

    Shape:
        x: (B, in_channels, H, W), nominally [0, 1], any H and W from 1
        → (B, out_channels, H, W), same dtype, not clamped.
    """

    MULTIPLE_PX = 8

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 31,
        dim: int = 31,
        stage: int = LEVELS,
        num_blocks: Sequence[int] = (4, 7, 5),
        **attention_options: Any,
    ) -> None:
        super().__init__()
        if dim != out_channels:
            raise ValueError(f"dim must equal out_channels, got {dim} and {out_channels}")
        check_levels(stage)
        self.embedding_1 = conv3x3(in_channels, dim)
        self.embedding_2 = conv3x3(in_channels, dim)
        choice = AttentionChoice.of(**attention_options)
        self._build(dim, num_blocks, choice, masked=True)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct ``x`` (B, in_channels, H, W) → (B, out_channels, H, W)."""
        return self.forward_guided(x, x)

    def forward_guided(self, x: Tensor, guide: Tensor) -> Tensor:
        """Reconstruct ``x`` with the mask features of ``guide``, (1 or B, in_channels, H, W).

        ``forward`` gives every image its own. The published code gives a whole batch those of its
        first image, so there a result depends on its neighbours.

        Shape:
            x: (B, in_channels, H, W) → (B, out_channels, H, W).
        """
        height, width = x.shape[-2:]
        x, guide = (pad_to_multiple(part, self.MULTIPLE_PX) for part in (x, guide))
        mask = F.leaky_relu(self.embedding_1(guide), SLOPE)  # (1 or B, dim, H', W')
        first = F.leaky_relu(self.embedding_2(x), SLOPE)
        y = self.mapping(self.forward_u(first, mask)) + first
        return y[..., :height, :width]


class MSTCassi(SpectralU):
    """MST for snapshot compressive imaging: 28 bands from one coded picture.

    Args carry the published names; ``dim``, the bands, must be those of the input, and ``stage``,
    the levels of the U, must be 2. Sizes S, M and L have blocks (2, 2, 2), (2, 4, 4) and (4, 7, 5).
    The attention's options are those of ``MSTPlusPlus``.

    Shape:
        x: (B, dim, H, W) as ``cassi_input`` makes it, H and W multiples of 4; mask: (H, W) in
        [0, 1], shared by the batch → (B, dim, H, W), same dtype, not clamped.
    """

    def __init__(
        self,
        *,
        dim: int = 28,
        stage: int = LEVELS,
        num_blocks: Sequence[int] = (2, 2, 2),
        **attention_options: Any,
    ) -> None:
        super().__init__()
        check_levels(stage)
        self.embedding = conv3x3(dim, dim)
        choice = AttentionChoice.of(**attention_options)
        self._build(dim, num_blocks, choice, masked=True, dispersed=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Reconstruct ``x`` (B, dim, H, W), coded by ``mask`` (H, W) → (B, dim, H, W).

        Raises:
            ValueError: A mask of another size, or sides that do not divide by 4.
        """
        check_scene(x, mask)
        dispersed = dispersed_mask(mask, x.shape[1]).unsqueeze(0)  # (1, dim, H, W + 54)
        first = F.leaky_relu(self.embedding(x), SLOPE)
        return self.mapping(self.forward_u(first, dispersed)) + x


def check_levels(stage: int) -> None:
    """Refuse another number of levels: that of the published networks is built in."""
    if stage != LEVELS:
        raise ValueError(f"stage (levels of the U) must be {LEVELS}, got {stage}")


def check_scene(x: Tensor, mask: Tensor) -> None:
    """Refuse sizes that ``MSTCassi`` cannot take: x (B, 28, H, W) and mask (H, W)."""
    height, width = x.shape[-2:]
    if tuple(mask.shape) != (height, width):
        raise ValueError(f"the mask is {tuple(mask.shape)}, the scene {(height, width)}")
    if height % SIDE_MULTIPLE_PX or width % SIDE_MULTIPLE_PX:
        raise ValueError(
            f"height and width must be multiples of {SIDE_MULTIPLE_PX}, got {height}×{width}"
        )


def dispersed_mask(mask: Tensor, bands: int = 28) -> Tensor:
    """Φ: the mask as every band meets it on the detector.

    Φ_i[r, u] = M[r, u − 2i], and 0 outside the mask.

    Shape:
        mask: (H, W) → (bands, H, W + 2·(bands − 1)).
    """
    height, width = mask.shape
    phi = mask.new_zeros(bands, height, width + BAND_STEP_PX * (bands - 1))
    for plane, start in zip(phi, shifts(bands), strict=True):
        plane[:, start : start + width] = mask
    return phi


def cassi_input(measurement: Tensor, bands: int = 28) -> Tensor:
    """What the network reads: the measurement, shifted back for every band, times 2/bands.

    Shape:
        measurement: (B, H, W + 2·(bands − 1)) → (B, bands, H, W).

    Raises:
        ValueError: The measurement is not wider than the dispersion.
    """
    width = measurement.shape[-1] - BAND_STEP_PX * (bands - 1)
    if width < 1:
        raise ValueError(f"a measurement of {bands} bands is wider than {measurement.shape[-1]}")
    spread = measurement.unsqueeze(1).expand(-1, bands, -1, -1)
    return shifted_back(spread, width) * (2 / bands)


def cassi_measurement(cube: Tensor, mask: Tensor) -> Tensor:
    """What the detector sees: every band masked, shifted by 2i columns, and added up.

    Shape:
        cube: (B, bands, H, W); mask: (H, W) → (B, H, W + 2·(bands − 1)).
    """
    bands, height, width = cube.shape[1:]
    y = cube.new_zeros(len(cube), height, width + BAND_STEP_PX * (bands - 1))
    for band, start in enumerate(shifts(bands)):
        y[..., start : start + width] += cube[:, band] * mask
    return y
