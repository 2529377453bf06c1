"""Overlapping windows over images larger than memory, blended without seams."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import zip_longest

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


def blend_weights(window: slice, length: int, ramp_px: int) -> Tensor:
    """Weight of each pixel of a window along one axis: float32 (window,), in (0, 1].

    Half a cosine over ``ramp_px`` pixels towards a neighbour, 1 elsewhere and at the image's edge.
    Where two windows overlap by exactly ``ramp_px`` their weights add up to 1; where it is 0,
    all windows count alike.
    """
    width = window.stop - window.start
    weights = torch.ones(width)
    ramp = min(ramp_px, width)
    if not ramp:
        return weights
    rise = 0.5 - 0.5 * torch.cos(math.pi * (torch.arange(ramp) + 0.5) / ramp)
    if window.start > 0:
        weights[:ramp] *= rise
    if window.stop < length:
        weights[-ramp:] *= rise.flip(0)
    return weights


def tiled_rows(
    restore: Callable[[slice, slice], Tensor],
    size: tuple[int, int],
    *,
    tile_px: int,
    overlap_px: int,
    ramp_px: int | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Restore overlapping windows, blend them, and hand out the rows that are done from the top.

    Only one row of windows is held at a time.

    Args:
        restore: Rows and columns of a window → float32 (C, h, w), on the CPU.
        size: (height, width) of the whole image in pixels.
        tile_px: Side of a window.
        overlap_px: What neighbours share at least.
        ramp_px: As for `blend_weights`; by default the whole overlap. 0 averages the windows.

    Yields:
        The first row, and (C, r, width) float32.
    """
    height, width = size
    ramp_px = overlap_px if ramp_px is None else ramp_px
    bands = tile_slices(height, tile_px, overlap_px)
    columns = tile_slices(width, tile_px, overlap_px)
    late: tuple[Tensor, Tensor] | None = None  # what the next band shares: sums, weights
    for rows, below in zip_longest(bands, bands[1:]):
        total: Tensor | None = None
        weights = torch.zeros(rows.stop - rows.start, width)
        for column in columns:
            y = restore(rows, column)  # (C, h, w)
            if total is None:
                total = y.new_zeros(len(y), *weights.shape)
                if late is not None:
                    total[:, : late[0].shape[1]] = late[0]
                    weights[: len(late[1])] = late[1]
            across = blend_weights(rows, height, ramp_px)[:, None]
            weight = across * blend_weights(column, width, ramp_px)
            total[..., column] += y * weight
            weights[..., column] += weight
        assert total is not None  # there is always at least one window
        done = (below.start if below else rows.stop) - rows.start
        late = total[:, done:].clone(), weights[done:].clone()
        yield rows.start, total[:, :done].div_(weights[:done])
