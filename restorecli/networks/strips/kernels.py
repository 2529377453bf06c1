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
from collections.abc import Callable, Sequence
from functools import cache
from threading import Thread
from types import ModuleType

import torch
from torch import Tensor

LANES = 16  # float32 values of a vector
LINE_BYTES = 64  # of memory: channels that are worked on together


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
    """Make the kernels that every network needs, if any, in a thread beside what else is loaded."""
    if usable(device, dtype):
        Thread(target=lambda: _code().make_all(dtype)).start()


@cache
def _code() -> ModuleType:
    """What makes the kernels, imported where any are needed."""
    return importlib.import_module("restorecli.networks.strips.kernel_code")


def layer_norm(rows: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """`LayerNorm` over the channels of every pixel.

    Shape:
        rows: (r, W, C), float32 or bfloat16; weight, bias: (C,) → (r, W, C), of ``dtype``.
    """
    channels, rows, scale = rows.shape[-1], rows.contiguous(), weight.float()
    shift = scale if bias is None else bias.float()  # not read without a bias
    out = torch.empty_like(rows, dtype=dtype)
    kernel = _code().layer_norm(channels, rows.dtype, dtype, bias is not None)
    kernel(*_addresses(rows, out, scale, shift), rows.numel() // channels)
    return out


def depthwise(weights: Sequence[Tensor], dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """3×3 convolution of each channel alone between halos, or of two: GELU(first) · second.

    Shape:
        weights: one or two of (K, 1, 3, 3), K in whole lines; then (r + 2, W, K), or the two beside
            each other, (r + 2, W, 2K), of ``dtype`` → (r, W, K).
    """
    channels, line = weights[0].shape[0], line_of(dtype)
    parts = torch.stack([weight.float().flatten(1) for weight in weights])  # (n, K, 9)
    lines = parts.unflatten(1, (-1, line)).permute(1, 0, 3, 2)  # (K / line, n, 9, line)
    if dtype == torch.bfloat16:  # as they are read: those in the low halves of words first
        lines = torch.cat([lines[..., ::2], lines[..., 1::2]], -1)
    lines = lines.contiguous()
    kernel = _code().depthwise(len(weights), dtype)

    def convolve(rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        out = rows.new_empty(rows.shape[0] - 2, rows.shape[1], channels)
        kernel(*_addresses(rows, out, lines), *out.shape)
        return out

    return convolve


def weighted_sum(pairs: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Both halves of the channels times ``scales``, added.

    Shape:
        pairs: (r, W, 2C), float32 or bfloat16; scales: (2C,) → (r, W, C), of ``dtype``.
    """
    pairs, scales, channels = pairs.contiguous(), scales.float(), scales.shape[0] // 2
    out = pairs.new_empty(*pairs.shape[:2], channels, dtype=dtype)
    kernel = _code().weighted_sum(pairs.dtype, dtype)
    kernel(*_addresses(pairs, out, scales), out.numel() // channels, channels)
    return out


def gelu_times(rows: Tensor, bias: Tensor, others: Tensor) -> Tensor:
    """GELU of ``rows`` and ``bias``, times ``others``.

    Shape:
        rows, others: (r, W, C), of the same dtype; bias: (C,) → (r, W, C), in place of ``rows``.
    """
    rows, others, bias = rows.contiguous(), others.contiguous(), bias.float()
    kernel = _code().gelu_times(rows.dtype)
    kernel(*_addresses(rows, bias, others), rows.numel() // len(bias), len(bias))
    return rows


def sums_of_squares(rows: Tensor) -> Tensor:
    """Σ x² over all pixels, of every channel.

    Shape:
        rows: (n, C), float32 or bfloat16 → (C,), float32.
    """
    rows = rows.contiguous()
    sums = rows.new_zeros(rows.shape[1], dtype=torch.float32)
    _code().sums_of_squares(rows.dtype)(*_addresses(rows, sums), *rows.shape)
    return sums


def _addresses(*tensors: Tensor) -> list[int]:
    """Where the first values of contiguous tensors of any shape, (...), are."""
    return [tensor.data_ptr() for tensor in tensors]
