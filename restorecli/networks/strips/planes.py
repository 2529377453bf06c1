"""Planes of features that are asked for by rows: stored, or made each time from other planes.

Every layer of MST++ and MST that touches pixels needs a few rows of neighbours at most. A plane
that is made asks its source for those rows and zero-pads beyond the edges of the plane and only
there, so any rows come out as from the whole plane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from restorecli.networks.blocks import statistics_dtype
from restorecli.networks.glmha_restormer import cell_maxima, grid_cells
from restorecli.networks.strips.rows import Kernel, PixelSum, pointwise

SUM_PIXELS = 2048  # of one sum in the precision of the features' statistics


class Slab(NamedTuple):
    """Rows of a plane, from ``start`` on.

    Shape:
        rows: (r, W, C), contiguous.
    """

    rows: Tensor
    start: int
    height: int  # of the plane

    @property
    def stop(self) -> int:
        """End of the rows."""
        return self.start + self.rows.shape[0]

    def part(self, top: int, bottom: int) -> Tensor:
        """Rows ``top`` … ``bottom`` of the plane, which must lie in it: (r, W, C)."""
        return self.rows[top - self.start : bottom - self.start]

    def of(self, rows: Tensor) -> Slab:
        """Other features of the same rows: (r, W, K)."""
        return Slab(rows, self.start, self.height)

    def mixed(self, kernel: Kernel) -> Slab:
        """1×1 convolution: (r, W, C) → (r, W, K)."""
        return self.of(pointwise(self.rows, kernel))

    def convolved(self, kernel: Kernel) -> Slab:
        """Odd convolution, stride 1: loses its halo on both sides, not at the plane's edges."""
        halo = kernel.weight.shape[-1] // 2
        above = halo if self.start == 0 else 0
        below = halo if self.stop == self.height else 0
        start = self.start + halo - above
        padded = F.pad(self.rows, (0, 0, 0, 0, above, below)) if above or below else self.rows
        groups = padded.shape[-1] if kernel.weight.shape[1] == 1 else 1
        return Slab(convolve(padded, kernel, columns=halo, groups=groups), start, self.height)


def convolve(
    rows: Tensor, kernel: Kernel, *, columns: int, groups: int = 1, stride: int = 1
) -> Tensor:
    """Convolve (r, W, C) → (r', W', K) with ``columns`` of zeros left and right, none above."""
    planes = rows.unsqueeze(0).permute(0, 3, 1, 2)  # (1, C, r, W), channels last
    y = F.conv2d(planes, *kernel, stride=stride, padding=(0, columns), groups=groups)
    return y.permute(0, 2, 3, 1).squeeze(0).contiguous()


@dataclass(frozen=True, slots=True)
class Plane:
    """Features (H, W, C) whose rows ``make(top, bottom)`` → (r, W, C) gives."""

    height: int
    make: Callable[[int, int], Tensor]

    def slab(self, top: int, bottom: int, halo: int = 0) -> Slab:
        """Rows ``top`` … ``bottom`` and ``halo`` more above and below, where there are any."""
        top, bottom = max(top - halo, 0), min(bottom + halo, self.height)
        return Slab(self.make(top, bottom), top, self.height)

    def stored(self, strip_rows: int) -> Stored:
        """All rows, made strip by strip and kept."""
        rows = [self.make(top, bottom) for top, bottom in bands(self.height, strip_rows)]
        buffer = rows[0].new_empty(self.height, *rows[0].shape[1:]) if len(rows) > 1 else rows[0]
        if len(rows) > 1:
            torch.cat(rows, out=buffer)
        return Stored(buffer)


@dataclass(frozen=True, slots=True)
class Stored:
    """Features (H, W, C) in memory, which belong to whoever holds them."""

    buffer: Tensor

    @property
    def plane(self) -> Plane:
        """The features as a plane."""
        return Plane(self.buffer.shape[0], lambda top, bottom: self.buffer[top:bottom])

    def replace(
        self, change: Callable[[Slab, int, int], Tensor], halo: int, strip_rows: int
    ) -> None:
        """Let every strip become ``change(old rows with their halo, top, bottom)``, in place.

        Shape:
            change: (r + halo, W, C) → (bottom − top, W, C).
        """
        height = self.buffer.shape[0]
        above: Tensor | None = None  # old rows above the strip, which are overwritten already
        for top, bottom in bands(height, strip_rows):
            below = self.buffer[top : min(bottom + halo, height)]
            rows = below if above is None else torch.cat([above, below])
            slab = Slab(rows, top if above is None else top - len(above), height)
            above = slab.part(max(bottom - halo, slab.start), bottom).clone()
            self.buffer[top:bottom] = change(slab, top, bottom)


def bands(height: int, strip_rows: int) -> Iterator[tuple[int, int]]:
    """First row and end of every strip, from the top."""
    return ((top, min(top + strip_rows, height)) for top in range(0, height, strip_rows))


def convolved(
    source: Plane, kernel: Kernel, activation: Callable[[Tensor], Tensor] | None = None
) -> Plane:
    """An odd convolution of ``source``, stride 1, as a plane: (H, W, C) → (H, W, K)."""
    halo = kernel.weight.shape[-1] // 2

    def make(top: int, bottom: int) -> Tensor:
        rows = source.slab(top, bottom, halo).convolved(kernel).part(top, bottom)
        return rows if activation is None else activation(rows)

    return Plane(source.height, make)


def halved(source: Plane, kernel: Kernel) -> Plane:
    """A 4×4 convolution of stride 2 and padding 1: (H, W, C) → (H/2, ⌊W/2⌋, K)."""

    def make(top: int, bottom: int) -> Tensor:
        first, last = 2 * top - 1, 2 * bottom + 1
        slab = source.slab(max(first, 0), min(last, source.height))
        edges = max(-first, 0), max(last - source.height, 0)
        return convolve(F.pad(slab.rows, (0, 0, 0, 0, *edges)), kernel, columns=1, stride=2)

    return Plane(source.height // 2, make)


def doubled(source: Plane, kernel: Kernel) -> Plane:
    """A transposed 2×2 convolution of stride 2: (H, W, C) → (2H, 2W, K)."""

    def make(top: int, bottom: int) -> Tensor:
        first, last = top // 2, (bottom + 1) // 2
        planes = source.slab(first, last).rows.unsqueeze(0).permute(0, 3, 1, 2)
        y = F.conv_transpose2d(planes, *kernel, stride=2)  # (1, K, 2r, 2W)
        return y.permute(0, 2, 3, 1).squeeze(0)[top - 2 * first : bottom - 2 * first].contiguous()

    return Plane(2 * source.height, make)


def second_moments(plane: Plane, strip_rows: int, look: Callable[[Slab], None]) -> Tensor:
    """Σ x·xᵀ over all pixels, (C, C), in float64 where there is one; ``look`` sees the rows."""
    total = PixelSum()
    for top, bottom in bands(plane.height, strip_rows):
        slab = plane.slab(top, bottom)
        pixels = slab.rows.flatten(0, 1)
        for block in torch.split(pixels.to(statistics_dtype(pixels)), SUM_PIXELS):
            total.add((block.mT @ block).unsqueeze(0))
        look(slab)
    return total.total


class GridMaxima:
    """``grid_maxima`` of a plane that comes by rows from the top."""

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self._maxima: Tensor | None = None  # (cells, cells, C)

    def add(self, slab: Slab) -> None:
        """Take more rows into account."""
        columns = cell_maxima(slab.rows, self.cells, axis=1)  # (r, cells, C)
        if self._maxima is None:
            shape = (self.cells, self.cells, columns.shape[-1])
            self._maxima = columns.new_full(shape, -torch.inf)
        for row, (start, stop) in enumerate(grid_cells(slab.height, self.cells)):
            shared = columns[max(start - slab.start, 0) : max(stop - slab.start, 0)]
            if len(shared):
                torch.maximum(self._maxima[row], shared.amax(0), out=self._maxima[row])

    @property
    def total(self) -> Tensor:
        """The maxima: (1, C, cells, cells)."""
        if self._maxima is None:
            raise ValueError("nothing was added")
        return self._maxima.permute(2, 0, 1).unsqueeze(0)
