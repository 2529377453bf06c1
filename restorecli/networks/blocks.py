"""Layers that Restormer, GLMHA-Restormer and HINT share.

Restormer: Efficient Transformer for High-Resolution Image Restoration (Zamir et al., CVPR 2022).
Parameter names are those of the published checkpoints; images are B×C×H×W, H and W in pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MULTIPLE_PX = 8  # three halvings: height and width must divide by this
NORM_EPS = 1e-5
UNIT_EPS = 1e-12  # below this length a vector is divided by UNIT_EPS instead

WITHOUT_FLOAT64 = frozenset({"mps"})  # devices

NORM_KINDS = ("WithBias", "BiasFree")


class Scale(nn.Module):
    """Only holds what a norm multiplies by and adds.

    Shape:
        weight, bias: (C,); bias may be ``None``.
    """

    def __init__(self, channels: int, with_bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if with_bias else None


class LayerNorm(nn.Module):
    """Normalise the channels of every pixel (biased variance, ε = 1e-5).

    ``WithBias`` is the usual layer norm, (x−μ)/√(σ²+ε)·γ+β. ``BiasFree`` is x/√(σ²+ε)·γ: the mean
    enters the variance but is not subtracted.

    Shape:
        x: (B, C, H, W), any float dtype → (B, C, H, W), same dtype.
    """

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        if kind not in NORM_KINDS:
            raise ValueError(f"LayerNorm_type must be one of {NORM_KINDS}, got {kind!r}")
        self.body = Scale(channels, kind == "WithBias")  # published name: norm.body.weight

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (B, C, H, W) → (B, C, H, W)."""
        rows = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        weight, bias = self.body.weight, self.body.bias
        if bias is not None:
            y = F.layer_norm(rows, weight.shape, weight, bias, NORM_EPS)
        else:
            variance = rows.var(-1, keepdim=True, unbiased=False)
            y = rows * torch.rsqrt(variance + NORM_EPS) * weight
        return y.permute(0, 3, 1, 2)  # (B, C, H, W)


class FeedForward(nn.Module):
    """Gated feed-forward (GDFN): GELU of one half of the hidden features times the other half.

    Restormer, Eq. 2 and section 3.2; ``hidden = int(expansion · C)``.

    Shape:
        x: (B, C, H, W), any float dtype → (B, C, H, W), same dtype.
    """

    def __init__(self, channels: int, expansion: float, *, bias: bool) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        wide = 2 * hidden
        self.project_in = nn.Conv2d(channels, wide, 1, bias=bias)
        self.dwconv = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=bias)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``x`` (B, C, H, W) → (B, C, H, W)."""
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)  # each (B, hidden, H, W)
        return self.project_out(F.gelu(gate) * value)  # (B, C, H, W)


class PatchEmbed(nn.Module):
    """First convolution: image to features, 3×3, zero padding.

    Shape:
        x: (B, inp_channels, H, W) → (B, dim, H, W).
    """

    def __init__(self, in_channels: int, channels: int, *, bias: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Embed ``x`` (B, inp_channels, H, W) → (B, dim, H, W)."""
        return self.proj(x)


class Downsample(nn.Module):
    """Halve the plane and double the channels: 3×3 convolution, then pixel unshuffle.

    Shape:
        x: (B, C, H, W) → (B, 2C, H/2, W/2).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)
        self.body = nn.Sequential(convolution, nn.PixelUnshuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        """Shrink ``x`` (B, C, H, W) → (B, 2C, H/2, W/2)."""
        return self.body(x)


class Upsample(nn.Module):
    """Double the plane and halve the channels: 3×3 convolution, then pixel shuffle.

    Shape:
        x: (B, C, H, W) → (B, C/2, 2H, 2W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(channels, channels * 2, 3, padding=1, bias=False)
        self.body = nn.Sequential(convolution, nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x`` (B, C, H, W) → (B, C/2, 2H, 2W)."""
        return self.body(x)


def pad_to_multiple(x: Tensor, multiple: int = MULTIPLE_PX) -> Tensor:
    """Reflect ``x`` at its right and bottom edges until both sides divide by ``multiple``.

    The reflection repeats where an image is smaller than what it lacks, so one pixel is enough.

    Shape:
        x: (B, C, H, W), H and W at least 1 → (B, C, H', W').
    """
    for axis in (2, 3):
        length = x.shape[axis]
        if lacking := -length % multiple:
            padded = torch.arange(length + lacking, device=x.device)
            x = x.index_select(axis, reflected(padded, length))
    return x


def reflected(index: Tensor, length: int) -> Tensor:
    """Positions in [0, length) that ``index`` ≥ 0 meets when the axis is mirrored at its ends.

    Shape:
        index: (N,), int64 → (N,), int64.
    """
    if length == 1:
        return torch.zeros_like(index)
    folded = index % (2 * (length - 1))
    return torch.minimum(folded, 2 * (length - 1) - folded)


def statistics_dtype(x: Tensor) -> torch.dtype:
    """Precision of sums over pixels: float64 stays, everything else is float32.

    Shape:
        x: any shape.
    """
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def channel_scores(gram: Tensor, q_squares: Tensor, k_squares: Tensor) -> Tensor:
    """Cosine similarity of every row of q with every row of k, from sums over pixels.

    G/(‖q‖‖k‖ᵀ): the unit vectors of Restormer's Eq. 1 without making them.

    Shape:
        gram: (..., c, c'), Σ q·k over pixels; q_squares: (..., c), Σ q²; k_squares: (..., c'), Σ k²
        → (..., c, c'), in [−1, 1].
    """
    q_length = q_squares.sqrt().clamp_min(UNIT_EPS).unsqueeze(-1)  # (..., c, 1)
    k_length = k_squares.sqrt().clamp_min(UNIT_EPS).unsqueeze(-2)  # (..., 1, c')
    return gram / (q_length * k_length)
