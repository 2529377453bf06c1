"""The steps that touch pixels, on a few rows of a plane.

Features lie pixel by pixel, as (H, W, C): a strip of rows is then a contiguous slice, which a
convolution sees as a channels-last batch of one without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restorecli.networks.blocks import (
    NORM_EPS,
    WITHOUT_FLOAT64,
    LayerNorm,
    statistics_dtype,
)
from restorecli.networks.strips import kernels

EVERY_CHANNEL = slice(None)
VECTOR = 16  # float32 values of the widest vectors of processors
CPUINFO, AMD = Path("/proc/cpuinfo"), "AuthenticAMD"
SPLIT_CHANNELS = 512  # from which on oneDNN 3.12 may split a sum of bfloat16 products
SUM_ROWS = 8  # rows of one sum in the precision of the features' statistics
ONE_BLOCK_AT_A_TIME = frozenset({"cpu"})  # devices that sum faster so: a block stays in the cache


@dataclass(frozen=True, slots=True)
class Strip:
    """Rows ``start`` … ``stop`` of a plane of ``height`` rows.

    With its halo, a strip has one more row above and below, except beyond the edges of the plane.
    From top to bottom of a section, every row is ``fresh`` in one strip. Sections are worked on
    independently of each other: ``first`` is the first row of the strip's section.
    """

    start: int
    stop: int
    height: int
    first: int = 0

    @property
    def top(self) -> int:
        """First row of the halo."""
        return max(self.start - 1, 0)

    @property
    def bottom(self) -> int:
        """End of the halo."""
        return min(self.stop + 1, self.height)

    @property
    def fresh(self) -> slice:
        """Rows of the strip and its halo that are in no strip of its section above and its halo."""
        begins = self.start == self.first
        return slice(self.top if begins else min(self.start + 1, self.height), self.bottom)

    @property
    def haloed(self) -> Strip:
        """The strip that is this one's halo and centre."""
        return Strip(self.top, self.bottom, self.height)


def strips_of(height: int, strip_rows: int, first: int = 0, last: int | None = None) -> list[Strip]:
    """Cover a section of ``height`` rows from the top by strips; the last may be shorter."""
    last = height if last is None else last
    starts = range(first, last, strip_rows)
    return [Strip(start, min(start + strip_rows, last), height, first) for start in starts]


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

    def extended(self, lacking: int) -> Kernel:
        """The kernel with ``lacking`` more results, which are 0."""
        if not lacking:
            return self
        more = (0,) * (2 * self.weight.dim() - 1) + (lacking,)
        bias = None if self.bias is None else F.pad(self.bias, (0, lacking))
        return Kernel(F.pad(self.weight, more), bias)

    def for_more(self, lacking: int) -> Kernel:
        """The kernel for ``lacking`` more channels, which change nothing."""
        return Kernel(F.pad(self.weight, (0, 0, 0, 0, 0, lacking)), self.bias)

    def reading(self, channels: slice | Tensor) -> Kernel:
        """The kernel for channels in another order: the i-th is what was ``channels[i]``, (C,)."""
        return Kernel(self.weight[:, channels], self.bias)

    def beside(self, other: Kernel) -> Kernel:
        """One kernel with the results of this one and then those of ``other``, of the same form."""
        biases = [bias for bias in (self.bias, other.bias) if bias is not None]
        return Kernel(torch.cat([self.weight, other.weight]), torch.cat(biases) if biases else None)

    def after(self, first: Kernel) -> Kernel:
        """One 1×1 kernel for ``first`` and then this one."""
        (second, bias), (weight, first_bias) = self, first
        weight = (second.flatten(1) @ weight.flatten(1))[..., None, None]
        if first_bias is not None:
            moved = second.flatten(1) @ first_bias
            bias = moved if bias is None else moved + bias
        return Kernel(weight, bias)


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
    if by_products(rows.device.type):
        return F.linear(rows, kernel.weight.flatten(1), kernel.bias)
    return _convolve(rows, kernel, padding=(0, 0), groups=1)


def put_pointwise(out: Tensor, rows: Tensor, kernel: Kernel, *, add: bool = False) -> None:
    """1×1 convolution into ``out``, or added to it.

    Long sums of half precision are split by the library as the number of pixels suggests, and
    rounded accordingly: they are made over blocks of rows, as sums over pixels are.

    Shape:
        out: (r, W, K), contiguous; rows: (r, W, C).
    """
    if by_products(rows.device.type):
        weight = kernel.weight.flatten(1)
        splits = splits_sums(rows)
        step = SUM_ROWS if splits else max(rows.shape[0], 1)
        for made, given in zip(out.split(step), rows.split(step), strict=True):
            pixels = made.view(-1, out.shape[-1])
            torch.addmm(pixels, given.flatten(0, 1), weight.mT, beta=1 if add else 0, out=pixels)
        if kernel.bias is not None:
            out += kernel.bias
    elif add:
        out += pointwise(rows, kernel)
    else:
        out.copy_(pointwise(rows, kernel))


def splits_sums(rows: Tensor) -> bool:
    """Whether a processor's library may split the sums over the channels of (r, W, C)."""
    half = rows.element_size() < 4 and rows.device.type == "cpu"
    return half and rows.shape[-1] >= SPLIT_CHANNELS


def gelu_in_place(rows: Tensor) -> Tensor:
    """``F.gelu`` without a second buffer: (r, W, C), changed and returned."""
    return torch.ops.aten.gelu_(rows)


def gated_by(rows: Tensor, kernel: Kernel) -> Tensor:
    """GELU of a 1×1 convolution of ``rows``, times them: (r, W, C) → (r, W, C)."""
    weight, bias = kernel
    if bias is None or not kernels.usable(rows.device, rows.dtype, channels=len(bias)):
        return gelu_in_place(pointwise(rows, kernel)).mul_(rows)
    return kernels.gelu_times(pointwise(rows, Kernel(weight, None)), bias, rows)


def weighted_sum(pairs: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Both halves of the channels times ``scales``, added.

    Shape:
        pairs: (r, W, 2C); scales: (2C,), of at least float32 → (r, W, C), of ``dtype``.
    """
    if kernels.usable(pairs.device, pairs.dtype, dtype, channels=len(scales) // 2):
        return kernels.weighted_sum(pairs, scales, dtype)
    (first, second), (its, other) = pairs.to(dtype).chunk(2, -1), scales.to(dtype).chunk(2)
    return (first * its).addcmul_(second, other)


def convolve_and_gelu(rows: Tensor, kernel: Kernel) -> Tensor:
    """3×3 convolution of each channel alone between halos, and GELU: (r+2, W, K) → (r, W, K).

    Where the convolution library can do both at once, GELU meets values that are in registers.
    """
    if not fuses_gelu(rows.device.type, rows.dtype):
        return gelu_in_place(_convolve(rows, kernel, padding=(0, 1), groups=rows.shape[-1]))
    planes = rows.unsqueeze(0).permute(0, 3, 1, 2)  # (1, K, r + 2, W), channels last
    y = _convolution_and_gelu(planes, kernel, padding=(0, 1), groups=planes.shape[1])
    return y.permute(0, 2, 3, 1).squeeze(0)


def _convolution_and_gelu(
    planes: Tensor, kernel: Kernel, padding: tuple[int, int], groups: int
) -> Tensor:
    """An operator of torch's compiler, which calls oneDNN: (1, C, r, W) → (1, K, r', W)."""
    return torch.ops.mkldnn._convolution_pointwise(
        planes, kernel.weight, kernel.bias, padding, (1, 1), (1, 1), groups, "gelu", [], "none"
    )


@cache
def fuses_gelu(device: str, dtype: torch.dtype) -> bool:
    """Whether convolution and GELU can be one operation there; tried once, on very little."""
    if device != "cpu" or dtype == torch.float64:
        return False
    planes = torch.linspace(-3, 3, 16 * 9).view(1, 16, 3, 3).to(dtype)
    planes = planes.to(memory_format=torch.channels_last)
    kernel = Kernel(torch.ones(16, 1, 3, 3, dtype=dtype), None)
    try:
        y = _convolution_and_gelu(planes, kernel, padding=(1, 1), groups=16)
    except (AttributeError, NotImplementedError, RuntimeError):  # another build of torch
        return False
    expected = F.gelu(F.conv2d(planes, kernel.weight, padding=1, groups=16))
    return y.dtype == dtype and torch.allclose(y.float(), expected.float(), rtol=0.02, atol=0.02)


@cache
def by_products(device: str) -> bool:
    """Whether 1×1 convolutions are done as matrix products there, or by the convolution library.

    On an Intel processor the products are as fast or faster and need no copies; on an AMD one they
    are half as fast (200 against 400–450 GFLOP/s, PyTorch 2.13).
    """
    if device != "cpu" or not CPUINFO.exists():
        return True
    return not any(AMD in line for line in CPUINFO.read_text(errors="replace").splitlines())


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
    """1×1 convolution, then 3×3 on each channel alone: how q, k, v and hidden features arise."""

    mix: Kernel  # in the precision of the features
    blur: Kernel  # in that of the network

    @property
    def channels(self) -> int:
        """How many it makes."""
        return len(self.mix.weight)

    def beside(self, other: Branch) -> Branch:
        """One branch with the channels of this one and then those of ``other``."""
        return Branch(self.mix.beside(other.mix), self.blur.beside(other.blur))

    def padded(self, line: int) -> Branch:
        """The branch with channels of zeros at the end, up to a multiple of ``line``.

        127 or 255 channels, as the networks have them, take half as long again as 128 or 256.
        """
        lacking = -self.channels % line
        return Branch(self.mix.extended(lacking), self.blur.extended(lacking))


Blur = Callable[[Tensor], Tensor]  # rows between halos, (r + 2, W, K) → (r, W, K')


def blur_of(branch: Branch, *, gelu: bool = False) -> Blur:
    """The 3×3 convolution of each channel alone: (r + 2, W, K) → (r, W, K); then GELU, if asked."""
    dtype = branch.mix.weight.dtype
    if not gelu and has_kernel(branch):
        return kernels.depthwise([branch.blur.weight], dtype)
    kernel = branch.blur.to(dtype)
    if gelu:
        return lambda rows: convolve_and_gelu(rows, kernel)
    return lambda rows: _convolve(rows, kernel, padding=(0, 1), groups=rows.shape[-1])


def has_kernel(branch: Branch) -> bool:
    """Whether there is one for the 3×3 convolution of ``branch``."""
    weight, bias = branch.blur
    dtype = branch.mix.weight.dtype
    return (
        bias is None
        and kernels.usable(weight.device, dtype)
        and len(weight) % kernels.line_of(dtype) == 0
    )


def line_of(dtype: torch.dtype, device: torch.device) -> int:
    """Channels that are best taken together."""
    return kernels.line_of(dtype) if kernels.usable(device, dtype) else VECTOR


class Flow:
    """Features of a branch, strip by strip from the top; each row is mixed once.

    The 3×3 convolution of a strip needs mixed rows of its halo: two of them were mixed with the
    strip above, and are kept for this one.
    """

    def __init__(self, mix: Kernel, blur: Blur) -> None:
        self._mix, self._blur = mix, blur
        self._mixed: Tensor | None = None  # (r + 2, W, K): rows of a strip, one above, one below

    def __call__(self, fresh: Tensor, strip: Strip) -> Tensor:
        """Features of ``strip``, which follows that of the last call: (fresh, W, C) → (r, W, K)."""
        rows, mix = strip.stop - strip.start, self._mix
        if self._mixed is None or strip.start == strip.first:
            self._mixed = fresh.new_empty(rows + 2, fresh.shape[1], mix.weight.shape[0])
            filled = 1 if strip.start == 0 else 0
            self._mixed[:filled] = 0  # beyond the plane
        else:
            self._mixed[:2] = self._mixed[-2:].clone()
            filled = 2
        mixed = self._mixed = self._mixed[: rows + 2]
        if strip.stop == strip.height:
            mixed[-1] = 0
        if fresh.numel():  # a last strip of one row has none
            put_pointwise(mixed[filled : filled + fresh.shape[0]], fresh, mix)
        return self._blur(mixed)


def branch_of(
    mix: nn.Conv2d,
    blur: nn.Conv2d,
    dtype: torch.dtype,
    channels: slice | Tensor = EVERY_CHANNEL,
) -> Branch:
    """Some output channels of two convolutions of a network, for features of ``dtype``.

    Shape:
        channels: slice, or (K,) int64.
    """
    return Branch(kernel_of(mix, dtype, channels), kernel_of(blur, blur.weight.dtype, channels))


def normalised(norm: LayerNorm, rows: Tensor, dtype: torch.dtype) -> Tensor:
    """``LayerNorm`` of a strip; mean and variance are at least float32.

    Shape:
        rows: (r, W, C), any float dtype → (r, W, C), of ``dtype``.
    """
    weight, bias = norm.body.weight, norm.body.bias
    if kernels.usable(rows.device, rows.dtype, dtype, channels=rows.shape[-1]):
        return kernels.layer_norm(rows, weight, bias, dtype)
    rows = rows.to(dtype)
    if bias is not None:
        # A processor takes float32 weights beside half precision: they need not be rounded.
        own = statistics_dtype(rows) if rows.device.type == "cpu" else rows.dtype
        return F.layer_norm(rows, weight.shape, weight.to(own), bias.to(own), NORM_EPS)
    if not rows.numel():  # a last strip of one row: all were fresh in the strips above
        return rows
    wide = rows.to(statistics_dtype(rows))
    variance = wide.var(-1, keepdim=True, unbiased=False)
    return rows * (variance + NORM_EPS).rsqrt_().to(rows.dtype) * weight.to(rows.dtype)


Terms = Sequence[tuple[Tensor, Kernel]]  # rows (r, W, C), and what they are to be multiplied by


def add_terms(x: Tensor, strip: Strip, terms: Terms) -> None:
    """Add to a strip of ``x`` (H, W, C) a change: the sum of 1×1 convolutions."""
    for rows, kernel in terms:
        put_pointwise(x[strip.start : strip.stop], rows, kernel, add=True)


def blocks_of_pixels(rows: Tensor, *, as_they_are: bool = False) -> list[Tensor]:
    """Rows of a strip, a few at a time, as matrices in the precision of sums over pixels.

    Strip heights that divide by ``SUM_ROWS`` thus add the same blocks, and give the same sums. A
    processor takes one block at a time, from its cache; a GPU all at once.

    Shape:
        rows: (r, W, C) → of each group of blocks (b, n·W, C), float32 or float64, or
            ``as_they_are``.
    """
    dtype = rows.dtype if as_they_are else statistics_dtype(rows)
    if rows.device.type in ONE_BLOCK_AT_A_TIME:
        return [block.flatten(0, 1).to(dtype)[None] for block in torch.split(rows, SUM_ROWS)]
    whole = rows.shape[0] // SUM_ROWS * SUM_ROWS
    first, rest = rows[:whole], rows[whole:]
    groups = [first.unflatten(0, (-1, SUM_ROWS)).flatten(1, 2)] if whole else []
    return [group.to(dtype) for group in (*groups, rest.flatten(0, 1)[None]) if group.numel()]


def sums_of_squares(blocks: Tensor, *, keep: bool) -> Tensor:
    """Σ x² over the pixels of each block: (b, n, C) → (b, C); used up, unless to ``keep``."""
    if len(blocks) == 1 and kernels.usable(blocks.device, blocks.dtype, channels=blocks.shape[2]):
        return kernels.sums_of_squares(blocks[0]).unsqueeze(0)
    return (blocks.square() if keep else blocks.square_()).sum(1)


def multiplies_as_they_are(rows: Tensor) -> bool:
    """Whether products over pixels are made of half-precision features without widening them.

    A processor's bfloat16 products add up in float32 and are rounded once for each block of rows:
    less than queries and keys are themselves. float16 could overflow.

    Shape:
        rows: (r, W, C).
    """
    return rows.dtype == torch.bfloat16 and rows.device.type == "cpu"


class PixelSum:
    """A sum over all pixels from the sums over blocks of rows, good for images of any size.

    The sum over one block is float32 (float64 for float64 features); blocks add up in float64.
    Where the device has none (MPS), in float32 with the lost digits carried along (Kahan).
    """

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._excess: Tensor | None = None  # what rounding has added to the total so far

    def add(self, term: Tensor) -> None:
        """Add the sums over some blocks: (b, ...), the same shape each time but for b."""
        if term.device.type not in WITHOUT_FLOAT64:
            term = term[0].double() if len(term) == 1 else term.double().sum(0)
            self._total = term if self._total is None else self._total.add_(term)
            return
        term = term[0] if len(term) == 1 else term.sum(0)
        if self._total is None or self._excess is None:
            self._total, self._excess = term, torch.zeros_like(term)
        else:
            term = term - self._excess
            total = self._total + term
            self._excess = (total - self._total) - term
            self._total = total

    def join(self, other: PixelSum) -> None:
        """Add what ``other`` has added up."""
        if other:
            self.add(other.total.unsqueeze(0))

    def __bool__(self) -> bool:
        """Whether anything was added."""
        return self._total is not None

    @property
    def total(self) -> Tensor:
        """The sum, in float64 where the device has it."""
        if self._total is None:
            raise ValueError("nothing was added")
        return self._total
