"""Overlapping windows over images larger than memory, blended without seams."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def tile_slices(length: int, tile: int, overlap: int) -> list[slice]:
    """Windows that cover ``[0, length)`` along one axis; all values in pixels.

    Each is ``min(tile, length)`` wide. Neighbours share at least ``overlap`` pixels; the last
    window ends flush with the edge, so it may share more.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap must be in [0, tile), got overlap={overlap}, tile={tile}")
    if length <= tile:
        return [slice(0, length)]
    stride = tile - overlap
    count = math.ceil((length - tile) / stride) + 1
    starts = (min(i * stride, length - tile) for i in range(count))
    return [slice(start, start + tile) for start in starts]


def blend_weights(window: slice, length: int, overlap: int) -> Tensor:
    """Weight of each pixel of a window along one axis: float32 (window,), in (0, 1].

    Half a cosine over ``overlap`` pixels towards a neighbour, 1 elsewhere and at the image's edge.
    Where two windows overlap by exactly ``overlap`` their weights add up to 1.
    """
    width = window.stop - window.start
    weights = torch.ones(width)
    ramp = min(overlap, width)
    if not ramp:
        return weights
    rise = 0.5 - 0.5 * torch.cos(math.pi * (torch.arange(ramp) + 0.5) / ramp)
    if window.start > 0:
        weights[:ramp] *= rise
    if window.stop < length:
        weights[-ramp:] *= rise.flip(0)
    return weights


def restore_tiled(
    restore: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    tile_px: int,
    overlap_px: int,
    on_tile: Callable[[float], None] = lambda share: None,
) -> Tensor:
    """Apply ``restore`` to overlapping windows of ``x`` and blend them.

    Shape:
        x: (B, C, H, W) float32 → (B, C', H, W) float32, on the device of ``x``.

    Args:
        restore: (B, C, h, w) → (B, C', h, w), for h and w up to ``tile_px``.
        x: The whole image, nominally [0, 1].
        tile_px: Side of a window.
        overlap_px: What neighbours share at least.
        on_tile: Called after each window with the share of the work that it was, in (0, 1].
    """
    height, width = x.shape[-2:]
    rows = tile_slices(height, tile_px, overlap_px)
    columns = tile_slices(width, tile_px, overlap_px)
    total: Tensor | None = None
    weights = x.new_zeros(height, width)
    for row in rows:
        for column in columns:
            y = restore(x[..., row, column]).to(x)  # (B, C', h, w)
            if total is None:
                total = x.new_zeros(*y.shape[:2], height, width)
            across = blend_weights(row, height, overlap_px)[:, None]
            weight = (across * blend_weights(column, width, overlap_px)).to(x)
            total[..., row, column] += y * weight
            weights[row, column] += weight
            on_tile(1 / (len(rows) * len(columns)))
    assert total is not None  # there is always at least one window
    return total / weights
