"""Steps on pixels that PyTorch makes in several passes, each in one: values stay in registers.

Features are read and written as they lie in memory, bfloat16 or float32; everything between is
float32, added up in one fixed order. The kernels exist for processors with vectors of 512 bits.
Elsewhere, and for other kinds of features, these functions say so and PyTorch does the same.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import mmap
import sys
from array import array
from collections.abc import Callable, Sequence
from functools import cache, partial
from threading import Thread
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from restorecli.machine.kernels import CALLED, LANES, LINE_BYTES, TILE, Kind
from restorecli.networks.blocks import NORM_EPS

NOTHING = (0,) * (CALLED - 1)
LEAST_PIXELS = 2 * TILE  # of a product by tiles
KINDS = {torch.float32: Kind.FLOAT, torch.bfloat16: Kind.BFLOAT}
AMX_TILES, ARCH_PRCTL, REQUEST = 18, 158, 0x1023  # of Linux on x86-64


def usable(device: torch.device, *dtypes: torch.dtype, channels: int = 0) -> bool:
    """Whether there are kernels for features of these kinds here, with so many channels."""
    there = device.type == "cpu" and kinds_with_kernels().issuperset(dtypes)
    return there and channels % LANES == 0


@cache
def kinds_with_kernels() -> frozenset[torch.dtype]:
    """Kinds of features that this processor has instructions for, where code may be made."""
    wide = torch.backends.cpu.get_cpu_capability() in ("AVX512", "AMX")
    here = sys.platform == "linux" and importlib.util.find_spec("llvmlite") is not None
    if not (wide and here and may_make_code()):
        return frozenset()
    half = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return frozenset({torch.float32, torch.bfloat16} if half else {torch.float32})


def may_make_code() -> bool:
    """Whether the system lets this process run instructions that it has written itself."""
    libc = ctypes.CDLL(None)
    with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        byte = ctypes.c_char.from_buffer(page)
        whole = ctypes.c_void_p(ctypes.addressof(byte)), ctypes.c_size_t(mmap.PAGESIZE)
        allowed = libc.mprotect(*whole, mmap.PROT_READ | mmap.PROT_EXEC) == 0
        libc.mprotect(*whole, mmap.PROT_READ | mmap.PROT_WRITE)
        del byte  # or the page could not be given back
    return allowed


def line_of(dtype: torch.dtype) -> int:
    """Channels in a line of memory; kernels for depth-wise convolutions take whole lines."""
    return LINE_BYTES // dtype.itemsize


def make_ready(device: torch.device, dtype: torch.dtype) -> None:
    """Make what kernels networks in the wheel need, in a thread beside what else is loaded."""
    if usable(device, dtype):
        Thread(target=lambda: _code().make_usual(KINDS[dtype])).start()


def multiplies(device: torch.device, dtype: torch.dtype, *counts: int) -> bool:
    """Whether there are products of such features here, with such channels."""
    fits = usable(device, dtype) and all(count % TILE == 0 for count in counts)
    return fits and (dtype == torch.float32 or tiles_usable())


@cache
def tiles_usable() -> bool:
    """Whether this processor has tiles (AMX), and the system lets this process use them."""
    if not getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)():
        return False
    return ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST, AMX_TILES) == 0


@cache
def _code() -> ModuleType:
    """What makes the kernels, imported where any are needed."""
    return importlib.import_module("restorecli.machine.kernels.forms")


class Norm:
    """`LayerNorm` over the channels of every pixel, from features of one kind to another.

    Shape:
        weight, bias: (C,); C fills vectors.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, given: torch.dtype, made: torch.dtype
    ) -> None:
        self._kernel = _code().layer_norm(
            len(weight), KINDS[given], KINDS[made], NORM_EPS, with_bias=bias is not None
        )
        self._weight = weight.float().contiguous()
        self._bias = self._weight if bias is None else bias.float().contiguous()  # or not read

    def add_to(self, calls: Calls, rows: int, out: int, pixels: int) -> None:
        """The norms of so many pixels, given where features and results are."""
        calls.add(self._kernel, rows, out, *_addresses(self._weight, self._bias), pixels)


def layer_norm(rows: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """`LayerNorm` over the channels of every pixel.

    Shape:
        rows: (r, W, C), float32 or bfloat16; weight, bias: (C,) → (r, W, C), of ``dtype``.
    """
    rows, out, calls = rows.contiguous(), torch.empty_like(rows, dtype=dtype), Calls()
    norm = Norm(weight, bias, rows.dtype, dtype)
    norm.add_to(calls, rows.data_ptr(), out.data_ptr(), rows.numel() // rows.shape[-1])
    calls.run()
    return out


class Taps:
    """Weights of 3×3 convolutions of each channel alone, or of two: GELU(first) · second.

    Shape:
        weights: one or two of (K, 1, 3, 3), K in whole lines, for features of ``dtype``.
    """

    def __init__(self, weights: Sequence[Tensor], dtype: torch.dtype) -> None:
        self.channels, self._kernel = (
            weights[0].shape[0],
            _code().depthwise(len(weights), KINDS[dtype]),
        )
        parts = torch.stack([weight.float().flatten(1) for weight in weights])  # (n, K, 9)
        lines = parts.unflatten(1, (-1, line_of(dtype))).permute(1, 0, 3, 2)  # (…, n, 9, line)
        if dtype == torch.bfloat16:  # as they are read: those in the low halves of words first
            lines = torch.cat([lines[..., ::2], lines[..., 1::2]], -1)
        self._lines = lines.contiguous()
        self._at = self._lines.data_ptr()

    def add_to(
        self, calls: Calls, rows: Sequence[int], out: int, width: int, steps: tuple[int, int]
    ) -> None:
        """The convolution of one row, given where it, its neighbours and its results are.

        ``steps``: bytes from pixel to pixel and from line to line of channels in the rows.
        """
        given = *rows, out, self._at, width, self.channels
        calls.add(self._kernel, *given, *steps)


def depthwise(weights: Sequence[Tensor], dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """The convolution of `Taps`, between halos.

    Shape:
        weights: as those of `Taps`; then (r + 2, W, K), or the two beside each other,
            (r + 2, W, 2K), of ``dtype`` → (r, W, K).
    """
    taps = Taps(weights, dtype)

    def convolve(rows: Tensor) -> Tensor:
        rows, calls = rows.contiguous(), Calls()
        width, steps = rows.shape[1], (rows.stride(1) * dtype.itemsize, LINE_BYTES)
        out = rows.new_empty(rows.shape[0] - 2, width, taps.channels)
        step, out_step = (row.stride(0) * dtype.itemsize for row in (rows, out))
        for y in range(len(out)):
            above = rows.data_ptr() + y * step
            near = above, above + step, above + 2 * step
            taps.add_to(calls, near, out.data_ptr() + y * out_step, width, steps)
        calls.run()
        return out

    return convolve


class WeightedSum:
    """Both halves of the channels times ``scales``, added, from features of one kind to another.

    Shape:
        scales: (2C,); C fills vectors.
    """

    def __init__(self, scales: Tensor, given: torch.dtype, made: torch.dtype) -> None:
        self._kernel, self._scales = (
            _code().weighted_sum(KINDS[given], KINDS[made]),
            scales.float().contiguous(),
        )

    def add_to(self, calls: Calls, pairs: int, out: int, pixels: int) -> None:
        """The sums of so many pixels, given where features and results are."""
        scales = self._scales
        calls.add(self._kernel, pairs, out, scales.data_ptr(), pixels, len(scales) // 2)


def weighted_sum(pairs: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """The sums of `WeightedSum`.

    Shape:
        pairs: (r, W, 2C), float32 or bfloat16; scales: (2C,) → (r, W, C), of ``dtype``.
    """
    pairs, calls = pairs.contiguous(), Calls()
    out = pairs.new_empty(*pairs.shape[:2], len(scales) // 2, dtype=dtype)
    added = WeightedSum(scales, pairs.dtype, dtype)
    added.add_to(calls, pairs.data_ptr(), out.data_ptr(), out.shape[0] * out.shape[1])
    calls.run()
    return out


class Gate:
    """GELU of features and ``bias``, times others.

    Shape:
        bias: (C,), C fills vectors, or ``None`` of so many ``channels``.
    """

    def __init__(self, bias: Tensor | None, channels: int, dtype: torch.dtype) -> None:
        self._kernel = _code().gelu_times(KINDS[dtype])
        self._bias = torch.zeros(channels) if bias is None else bias.float().contiguous()

    def add_to(self, calls: Calls, rows: int, others: int, pixels: int) -> None:
        """The gates of so many pixels, in the place of ``rows``, given where both are."""
        bias = self._bias
        calls.add(self._kernel, rows, bias.data_ptr(), others, pixels, len(bias))


def gelu_times(rows: Tensor, bias: Tensor, others: Tensor) -> Tensor:
    """The gates of `Gate`.

    Shape:
        rows, others: (r, W, C), of the same dtype; bias: (C,) → (r, W, C), in place of ``rows``.
    """
    rows, others, calls = rows.contiguous(), others.contiguous(), Calls()
    gate = Gate(bias, len(bias), rows.dtype)
    gate.add_to(calls, rows.data_ptr(), others.data_ptr(), rows.numel() // len(bias))
    calls.run()
    return rows


def sums_of_squares(rows: Tensor) -> Tensor:
    """Σ x² over all pixels, of every channel.

    Shape:
        rows: (n, C), float32 or bfloat16 → (C,), float32.
    """
    rows = rows.contiguous()
    sums = rows.new_zeros(rows.shape[1], dtype=torch.float32)
    _code().sums_of_squares(KINDS[rows.dtype])(*_addresses(rows, sums), *rows.shape)
    return sums


class Calls:
    """Calls of kernels, to be made one after the other without coming back to Python."""

    def __init__(self) -> None:
        self.words: list[int] = []

    def add(self, kernel: Any, *given: int) -> None:
        """One more, with what it is given."""
        self.words += (kernel.address, *given, *NOTHING[len(given) :])

    def run(self) -> None:
        """Make them."""
        words = array("q", self.words)
        _make(words, words, 1)

    def repeat(self, following: Calls, times: int) -> None:
        """Make them, then ``following``, and what follows these in the same way, so many times."""
        pairs = zip(self.words, following.words, strict=True)
        growth = array("q", [after - before for before, after in pairs])
        _make(array("q", self.words), growth, times)


def clear(calls: Calls, at: int, size: int, count: int, step: int) -> None:
    """Fill ``count`` times ``size`` bytes, whole lines that begin ``step`` apart, with zeros."""
    calls.add(_code().clearing(), at, size, count, step)


def _make(words: array[int], growth: array[int], times: int) -> None:
    (at, count), (grown, _) = words.buffer_info(), growth.buffer_info()
    _code().calls()(at, grown, count // CALLED, times)


class Weights:
    """Weights of a 1×1 convolution of features, as kernels take them.

    Args:
        matrices: (k, C) each, float: results one after the other.
        bias: (K,), of all results, or ``None``.
        given, made: What features and results are: of one kind, or bfloat16 and float32, where
            weights are twice as precise as features.
        line: Each matrix is filled up with results of 0 to a multiple of it, itself one of 16.
        channels: Of the features, a multiple of 16: the last ones are for nothing if above C.
    """

    def __init__(
        self,
        matrices: Sequence[Tensor],
        bias: Tensor | None,
        given: torch.dtype,
        made: torch.dtype,
        *,
        line: int = TILE,
        channels: int | None = None,
    ) -> None:
        code, wide = _code(), channels or matrices[0].shape[1]
        counts = [len(matrix) for matrix in matrices]
        filled = [count + -count % line for count in counts]
        self.results, self.given, self.made = sum(filled), given, made
        self._kernels: dict[bool, Any] = {}
        tiles = given == torch.bfloat16
        if tiles:
            parts = 1 if given == made else 2
            pack, kind = code.packing(parts), torch.bfloat16
            self._make = partial(code.product, parts, KINDS[made])
        else:
            parts, vectors, kind = 1, code.vectors_of(self.results), torch.float32
            pack = code.float_packing(vectors)
            self._make = partial(code.float_product, vectors)
        self._packed = torch.zeros(parts * wide * self.results, dtype=kind)
        self._bias = torch.zeros(self.results)
        start = 0
        for i, (matrix, count) in enumerate(zip(matrices, counts, strict=True)):
            matrix = matrix.float().contiguous()
            pack(*_addresses(matrix, self._packed), *matrix.shape, wide, start)
            if bias is not None:
                own = sum(counts[:i])
                self._bias[start : start + count] = bias[own : own + count]
            start += filled[i]
        self._before = _addresses(self._packed, self._bias)  # of what a kernel is given, always
        self._after = [wide, self.results]
        self._steps = self.results * made.itemsize, LINE_BYTES
        if tiles:
            described = code.description(self.results, wide, parts, *self._before)
            self._described = torch.tensor(described)
            self._before, self._after = _addresses(self._described), []

    def add_to(
        self,
        calls: Calls,
        rows: int,
        out: int,
        pixels: int,
        *,
        add: bool = False,
        steps: tuple[int, int] | None = None,
    ) -> None:
        """The convolution of so many pixels, at least 32, given where they and results are.

        It takes the place of what is there, or is added to it. ``steps``: bytes from pixel to
        pixel and from line to line of channels in the results; one after the other when ``None``.
        """
        if add not in self._kernels:
            self._kernels[add] = self._make(add=add)
        given = rows, out, *self._before, pixels, *self._after, *(steps or self._steps)
        calls.add(self._kernels[add], *given)


class Gram:
    """Sums over pixels, of some channels, of each with others, and of squares.

    Args:
        channels: How many, and how many others: multiples of 16.
        values: Of a pixel, and of a pixel of the others.
        dtype: Of the features; the sums are float32.
    """

    def __init__(
        self, channels: tuple[int, int], values: tuple[int, int], dtype: torch.dtype
    ) -> None:
        code, self.channels = _code(), channels
        self._kernel = code.gram() if dtype == torch.bfloat16 else code.float_gram()
        self._steps = [count * dtype.itemsize for count in values]
        self._shapes = torch.tensor(code.shapes(2 * TILE))
        one, other = channels
        self.sizes = one * other, one, one, other  # of products, sums, squares, others' squares

    def add_to(self, calls: Calls, rows: int, others: int, sums: int, pixels: int) -> None:
        """Those of so many pixels, added to (size,) float32, given where all are."""
        given = rows, others, sums, self._shapes.data_ptr(), *self._steps, pixels
        calls.add(self._kernel, *given, *self.channels)


class Maxima:
    """The largest value of each channel, of ``channels`` that fill vectors."""

    def __init__(self, channels: int, dtype: torch.dtype) -> None:
        self._kernel, self._channels = _code().maxima(KINDS[dtype]), channels
        self.step = channels * dtype.itemsize  # bytes from pixel to pixel

    def add_to(self, calls: Calls, row: int, out: int, first: int, stop: int) -> None:
        """Those of some pixels of a row, (C,) of its dtype, given where both are."""
        given = row + first * self.step, out, self.step, stop - first
        calls.add(self._kernel, *given, self._channels)


class Rounding:
    """bfloat16 from float32."""

    def __init__(self) -> None:
        self._kernel = _code().rounding()

    def add_to(self, calls: Calls, rows: int, out: int, values: int) -> None:
        """So many values, which fill vectors, given where they and results are."""
        calls.add(self._kernel, rows, out, values)


def _addresses(*tensors: Tensor) -> list[int]:
    """Where the first values of contiguous tensors of any shape, (...), are."""
    return [tensor.data_ptr() for tensor in tensors]
