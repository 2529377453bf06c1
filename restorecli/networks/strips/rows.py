"""The steps that touch pixels, on a few rows of a plane.

Features lie pixel by pixel, as (H, W, C): a strip of rows is then a contiguous slice, which a
convolution sees as a channels-last batch of one without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restorecli.networks.blocks import NORM_EPS, LayerNorm, statistics_dtype

EVERY_CHANNEL = slice(None)
WITHOUT_FLOAT64 = frozenset({"mps"})  # devices
SUM_ROWS = 8  # rows of one sum in the precision of the features' statistics


@dataclass(frozen=True, slots=True)
class Strip:
    """Rows ``start`` … ``stop`` of a plane of ``height`` rows.

    With its halo, a strip has one more row above and below, except beyond the edges of the plane.
    """

    start: int
    stop: int
    height: int

    @property
    def top(self) -> int:
        """First row of the halo."""
        return max(self.start - 1, 0)

    @property
    def bottom(self) -> int:
        """End of the halo."""
        return min(self.stop + 1, self.height)

    @property
    def haloed(self) -> Strip:
        """The strip that is this one's halo and centre."""
        return Strip(self.top, self.bottom, self.height)


def strips_of(height: int, strip_rows: int) -> list[Strip]:
    """Cover ``height`` rows from the top by strips of ``strip_rows``; the last may be shorter."""
    starts = range(0, height, strip_rows)
    return [Strip(start, min(start + strip_rows, height), height) for start in starts]


class Kernel(NamedTuple):
    """Weights of a convolution as the features need them.

    Shape:
        weight: (K, C, 1, 1), (K, C, 3, 3) or, for each channel alone, (K, 1, 3, 3); bias: (K,).
    """

    weight: Tensor
    bias: Tensor | None

    def to(self, dtype: torch.dtype) -> Kernel:
        """The same kernel in ``dtype``."""
        return Kernel(self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype))

    def scaled(self, scale: Tensor) -> Kernel:
        """The kernel whose results are ``scale`` (K,) times those of this one."""
        scale = scale.to(self.weight.dtype)
        bias = None if self.bias is None else self.bias * scale
        return Kernel(self.weight * scale.reshape(-1, 1, 1, 1), bias)


def kernel_of(
    convolution: Any,  # nn.Conv1d or nn.Conv2d; out of nn.Sequential it has no better type
    dtype: torch.dtype,
    channels: slice | Tensor = EVERY_CHANNEL,
) -> Kernel:
    """The weights of ``convolution`` for some of its output channels, in ``dtype``.

    Shape:
        channels: slice, or (K,) int64.
    """
    weight = convolution.weight[channels]
    bias = None if convolution.bias is None else convolution.bias[channels]
    return Kernel(weight if weight.dim() == 4 else weight.unsqueeze(-1), bias).to(dtype)


def pointwise(rows: Tensor, kernel: Kernel) -> Tensor:
    """1×1 convolution: (r, W, C) → (r, W, K)."""
    return _convolve(rows, kernel, padding=(0, 0), groups=1)


def convolve3x3(rows: Tensor, kernel: Kernel, strip: Strip) -> Tensor:
    """3×3 convolution with zeros beyond the edges of the plane, and only there.

    Shape:
        rows: (r + halo, W, C), those of ``strip`` with its halo → (r, W, K).
    """
    groups = rows.shape[-1] if kernel.weight.shape[1] == 1 else 1
    if strip.top < strip.start and strip.stop < strip.bottom:
        return _convolve(rows, kernel, padding=(0, 1), groups=groups)
    y = _convolve(rows, kernel, padding=(1, 1), groups=groups)  # wrong in the halo: left out
    return y[strip.start - strip.top : strip.stop - strip.top]


def _convolve(rows: Tensor, kernel: Kernel, padding: tuple[int, int], groups: int) -> Tensor:
    """Convolve (r, W, C) → (r', W, K), without a copy where the device takes channels last."""
    planes = rows.unsqueeze(0).permute(0, 3, 1, 2)  # (1, C, r, W), channels last
    y = F.conv2d(planes, kernel.weight, kernel.bias, padding=padding, groups=groups)
    return y.permute(0, 2, 3, 1).squeeze(0)


class Branch(NamedTuple):
    """1×1 convolution, then 3×3 on each channel alone: how q, k, v and hidden features arise.

    Shape:
        rows: (r + halo, W, C), those of a strip with its halo → (r, W, K).
    """

    mix: Kernel
    blur: Kernel

    def __call__(self, rows: Tensor, strip: Strip) -> Tensor:
        """Features of ``strip``."""
        return convolve3x3(pointwise(rows, self.mix), self.blur, strip)

    def scaled(self, scale: Tensor) -> Branch:
        """The branch whose features are ``scale`` (K,) times those of this one."""
        return Branch(self.mix, self.blur.scaled(scale))


def branch_of(
    mix: nn.Conv2d,
    blur: nn.Conv2d,
    dtype: torch.dtype,
    channels: slice | Tensor = EVERY_CHANNEL,
) -> Branch:
    """Some output channels of two convolutions of a network, in ``dtype``.

    Shape:
        channels: slice, or (K,) int64.
    """
    return Branch(kernel_of(mix, dtype, channels), kernel_of(blur, dtype, channels))


def normalised(norm: LayerNorm, rows: Tensor) -> Tensor:
    """``LayerNorm`` of a strip; mean and variance are at least float32.

    Shape:
        rows: (r, W, C), any float dtype → (r, W, C), same dtype.
    """
    weight, bias = norm.body.weight.to(rows.dtype), norm.body.bias
    if bias is not None:
        return F.layer_norm(rows, weight.shape, weight, bias.to(rows.dtype), NORM_EPS)
    wide = rows.to(statistics_dtype(rows))
    variance = wide.var(-1, keepdim=True, unbiased=False)
    return rows * (variance + NORM_EPS).rsqrt_().to(rows.dtype) * weight


def add_in_place(
    x: Tensor,
    change: Callable[[Strip], Tensor],
    strips: Sequence[Strip],
    tick: Callable[[float], None] = lambda share: None,
) -> None:
    """Add to ``x`` a change that needs the *old* rows of a strip and of its halo.

    The last row of every strip is therefore changed one strip later. After each strip ``tick`` is
    told the share of the strips that it is.

    Shape:
        x: (H, W, C), changed; change(strip): (r, W, C).
    """
    late = None
    for strip in strips:
        rows = change(strip)  # (r, W, C)
        if late is not None:
            x[strip.start - 1] += late
        x[strip.start : strip.stop - 1] += rows[:-1]
        late = rows[-1].clone()
        del rows
        tick(1 / len(strips))
    if late is not None:
        x[-1] += late


def blocks_of_pixels(rows: Tensor) -> list[Tensor]:
    """Rows of a strip, a few at a time, as matrices in the precision of sums over pixels.

    Strip heights that divide by ``SUM_ROWS`` thus add the same blocks, and give the same sums.

    Shape:
        rows: (r, W, C) → of each block (n·W, C), float32 or float64.
    """
    dtype = statistics_dtype(rows)
    return [block.flatten(0, 1).to(dtype) for block in torch.split(rows, SUM_ROWS)]


class PixelSum:
    """A sum over all pixels from the sums over blocks of rows, good for images of any size.

    The sum over one block is float32 (float64 for float64 features); blocks add up in float64.
    Where the device has none (MPS), in float32 with the lost digits carried along (Kahan).
    """

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._excess: Tensor | None = None  # what rounding has added to the total so far

    def add(self, term: Tensor) -> None:
        """Add the sum over one block: (...), the same shape each time."""
        if term.device.type not in WITHOUT_FLOAT64:
            self._total = term.double() if self._total is None else self._total.add_(term)
        elif self._total is None or self._excess is None:
            self._total, self._excess = term, torch.zeros_like(term)
        else:
            term = term - self._excess
            total = self._total + term
            self._excess = (total - self._total) - term
            self._total = total

    @property
    def total(self) -> Tensor:
        """The sum, in float64 where the device has it."""
        if self._total is None:
            raise ValueError("nothing was added")
        return self._total
