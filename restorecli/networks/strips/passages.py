"""Several steps on pixels in one call: rows go through all of them while they are in the cache.

Norm, 1×1 convolution, 3×3 convolution of each channel alone and what follows are done for a few
rows at a time. The list of these steps is written in Python and worked off by a kernel. Values do
not depend on how many rows go together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from restorecli.machine.kernels import LINE_BYTES
from restorecli.networks.strips import kernels
from restorecli.networks.strips.attention import Features
from restorecli.networks.strips.kernels import Calls, Norm, Taps, Weights
from restorecli.networks.strips.rows import SUM_ROWS, Strip

STRIP_PIXELS = 2**16  # of a strip: whoever waits is told how far things are after each
GROUP_PIXELS = 512  # of the rows that go through all steps together
Then = Callable[[Calls, slice], None]  # what follows for some rows of the plane


def fuses(x: Tensor, module: nn.Module) -> bool:
    """Whether the steps of ``module``, on features (H, W, C), can be fused here.

    Kernels have no place for biases of 3×3 convolutions, which published networks do not have.
    """
    blurs = [
        part for part in module.modules() if isinstance(part, nn.Conv2d) and part.kernel_size[0] > 1
    ]
    fits = x.shape[1] >= kernels.LEAST_PIXELS and all(blur.bias is None for blur in blurs)
    return fits and kernels.multiplies(x.device, x.dtype, x.shape[2])


def fused_rows(x: Tensor) -> int:
    """Rows of strips of (H, W, C) where steps are fused, which few buffers grow with."""
    return max(STRIP_PIXELS // x.shape[1] // SUM_ROWS, 1) * SUM_ROWS


def group_rows(width: int) -> int:
    """How many rows go through all steps together: a part of those that are summed together."""
    rows = SUM_ROWS
    while rows > 1 and rows * width > GROUP_PIXELS:
        rows //= 2
    return rows


def kept_rows(width: int) -> int:
    """How many mixed rows are kept: those of two groups, and one above and below."""
    return max(2 * group_rows(width), 4)


class Rows:
    """Where the rows of a plane are: all of them, or the last few.

    Shape:
        values: (n, W, C), contiguous.
    """

    def __init__(self, values: Tensor) -> None:
        self.values, self.count, self.pixels = values, len(values), values.shape[1]
        self._first = values.data_ptr()
        self._bytes = values.stride(0) * values.element_size()

    def at(self, row: int) -> int:
        """The address of a row of the plane."""
        return self._first + row % self.count * self._bytes


def room(x: Tensor, channels: int, dtype: torch.dtype) -> Rows:
    """Room for the rows of (H, W, C) that go through all steps together."""
    shape = group_rows(x.shape[1]), x.shape[1], channels
    return Rows(x.new_empty(shape, dtype=dtype))


class Part(NamedTuple):
    """Channels that a passage makes: where they begin before the last step, and the rows made."""

    taps: Taps
    first: int
    rows: Rows


class Passage:
    """Norm, 1×1 and 3×3 convolution of a section's rows, from the top.

    The 3×3 convolution of a row needs the mixed rows above and below: the last few are kept, as
    (K / line, rows, W, line). It goes through them line by line of channels.
    """

    def __init__(self, features: Features, norm: Norm, mix: Weights, parts: Sequence[Part]) -> None:
        x, kept = features.x, kept_rows(features.x.shape[1])
        self._edges, self._norm, self._mix, self._parts = features.edges, norm, mix, parts
        self._x, self._height = Rows(x), len(x)
        self._normal = x.new_empty(kept, *x.shape[1:], dtype=mix.given)
        line = kernels.line_of(mix.made)
        shape = mix.results // line, kept, x.shape[1], line
        self._mixed = x.new_empty(shape, dtype=mix.made)
        self._first, self._at_normal = self._mixed.data_ptr(), self._normal.data_ptr()
        self._kept, self._row = kept, x.shape[1] * LINE_BYTES
        self._steps = LINE_BYTES, kept * self._row  # from pixel to pixel, and from line to line
        self._line, self._done = line, 0

    def begin(self, strip: Strip) -> None:
        """Go on with a strip."""
        self._done = strip.fresh.start

    def skip(self, rows: int) -> None:
        """So many rows were done elsewhere."""
        self._done += rows

    def add_to(self, calls: Calls, strip: Strip, rows: slice) -> None:
        """All steps for some rows of a strip."""
        if rows.start == 0:
            self._clear(calls, -1)
        self._mix_until(calls, strip, min(rows.stop + 1, self._height))
        if rows.stop == self._height:
            self._clear(calls, self._height)
        places = [self._place(y) for y in range(rows.start - 1, rows.stop + 1)]
        for part in self._parts:
            first = part.first // self._line * self._steps[1]
            near = [place + first for place in places]
            for y in range(rows.start, rows.stop):
                three = near[y - rows.start : y - rows.start + 3]
                part.taps.add_to(calls, three, part.rows.at(y), self._x.pixels, self._steps)

    def _clear(self, calls: Calls, row: int) -> None:
        """A mixed row beyond the plane is 0."""
        lines = self._mix.results // self._line
        kernels.clear(calls, self._place(row), self._row, lines, self._steps[1])

    def _place(self, row: int) -> int:
        """The address of a mixed row. Those of a group, which begin one below it, lie together."""
        return self._first + (row - 1) % self._kept * self._row

    def _mix_until(self, calls: Calls, strip: Strip, stop: int) -> None:
        while self._done < stop:
            row, last = self._done, stop - 1
            if row == strip.first - 1:
                given, count = self._edges[strip.first][0].data_ptr(), 1
            elif row in self._edges and row != strip.first:
                given, count = self._edges[row][1].data_ptr(), 1
            else:
                given = self._x.at(row)
                count = (last if last in self._edges and last != strip.first else stop) - row
            count = min(count, self._kept - (row - 1) % self._kept)
            pixels = count * self._x.pixels
            self._norm.add_to(calls, given, self._at_normal, pixels)
            self._mix.add_to(calls, self._at_normal, self._place(row), pixels, steps=self._steps)
            self._done += count


def go_through(strip: Strip, passages: Sequence[Passage], width: int, then: Then) -> None:
    """All steps for a strip of a plane, and ``then`` what follows, a few rows at a time.

    After some rows the same steps come again, on the next rows.
    """
    group, period = group_rows(width), max(kept_rows(width), SUM_ROWS)
    for passage in passages:
        passage.begin(strip)

    def listed(first: int, stop: int) -> Calls:
        calls = Calls()
        while first < stop:
            rows = slice(first, min((first // group + 1) * group, stop))
            for passage in passages:
                passage.add_to(calls, strip, rows)
            then(calls, rows)
            first = rows.stop
        return calls

    # Those in the middle begin where rows lie as before, and need none from beyond the strip.
    first = min(-(-(strip.start + 1) // period) * period, strip.stop)
    times = max((strip.stop - 1 - first) // period, 0)
    listed(strip.start, first).run()
    if times > 1:
        some = listed(first, first + period)
        some.repeat(listed(first + period, first + 2 * period), times)
        first += times * period
        for passage in passages:
            passage.skip((times - 2) * period)
    listed(first, strip.stop).run()
