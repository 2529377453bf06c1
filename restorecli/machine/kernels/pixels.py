"""Kernels for the steps on pixels, in one pass each, and for lists of calls of kernels."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

from llvmlite import ir

from restorecli.machine.kernels import CALLED, LANES, LINE_BYTES, Kind
from restorecli.machine.kernels.code import made_once
from restorecli.machine.kernels.writer import Values, Writer

COLUMNS = 32  # of a row that are worked on together: what they read stays in the first cache
# Pixels, and vectors of theirs, that go through the same steps together: a processor does not look
# far enough ahead to find the next ones while it waits for results of the first.
PIXELS, MOST_VECTORS = 4, 16


@made_once
def layer_norm(
    channels: int, given: Kind, made: Kind, epsilon: float, *, with_bias: bool
) -> tuple[bytes, int]:
    """Pointers to pixels, results, weights and biases, and the number of pixels."""
    to = Writer(pointers=4, counts=1)
    rows, out, weight, bias, pixels = to.arguments
    ops = to.ops
    places = range(0, channels, LANES)

    def some(count: int, index: Any, _: Values) -> Values:
        pixels = [ops.add(index, to.count(i)) for i in range(count)]
        starts = [to.at(rows, ops.mul(i, to.count(channels * given.size))) for i in pixels]
        targets = [to.at(out, ops.mul(i, to.count(channels * made.size))) for i in pixels]
        values = [
            [to.read(to.at(start, to.count(k * given.size)), given) for k in places]
            for start in starts
        ]
        means = [to.mean(own) for own in values]
        apart = [
            [ops.fsub(value, mean) for value in own]
            for own, mean in zip(values, means, strict=True)
        ]
        variances = [to.mean([ops.fmul(value, value) for value in own]) for own in apart]
        scales = [to.inverse_root(ops.fadd(v, to.constant(epsilon))) for v in variances]
        for i, k in enumerate(places):
            at = to.count(4 * k)
            its_weight = to.read(to.at(weight, at), Kind.FLOAT)
            its_bias = to.read(to.at(bias, at), Kind.FLOAT) if with_bias else None
            for own, scale, target in zip(
                apart if with_bias else values, scales, targets, strict=True
            ):
                y = ops.fmul(ops.fmul(own[i], scale), its_weight)
                y = ops.fadd(y, its_bias) if with_bias else y
                to.write(to.at(target, to.count(k * made.size)), y, made)
        return []

    together = max(min(PIXELS, MOST_VECTORS // len(places)), 1)
    whole = ops.sub(pixels, ops.urem(pixels, to.count(together)))
    to.loop(to.count(0), whole, to.count(together), partial(some, together))
    to.loop(whole, pixels, to.count(1), partial(some, 1))
    return to.finished()


class Depthwise(Writer):
    """3×3 convolutions of each channel alone, of one part or of two: GELU(first) · second.

    Pointers to the row above, the row and the one below, to results and weights; numbers of
    columns and of channels, and of bytes from pixel to pixel and from line to line of channels in
    the rows. Some columns are done line by line. A column of three pixels is read once: it has a
    share in three results, of which two are carried on.
    """

    def __init__(self, parts: int, kind: Kind) -> None:
        super().__init__(pointers=5, counts=4)
        self.parts, self.kind, self.vectors = parts, kind, kind.line // LANES
        *self.rows, self.out, self.weights, self.width, channels, self.pixel, self.line = (
            self.arguments
        )
        self.no, self.one, self.edge = self.count(0), self.count(1), self.zeros()
        self.out_pixel = self.ops.mul(channels, self.count(kind.size))  # in bytes, as all are
        lines = self.ops.udiv(self.out_pixel, self.count(LINE_BYTES))
        self.part = self.ops.mul(lines, self.line)
        self.loop(self.no, self.width, self.count(COLUMNS), self.some_columns)

    def some_columns(self, first: Any, _: Values) -> Values:
        """Results from column ``first``, at most ``COLUMNS``."""
        stop = self.least(self.ops.add(first, self.count(COLUMNS)), self.width)
        line = self.count(LINE_BYTES)
        self.loop(self.no, self.out_pixel, line, lambda at, _: self.one_line((first, stop), at))
        return []

    def one_line(self, columns: tuple[Any, Any], at: Any) -> Values:
        """Results of some columns in the line of channels that begins ``at`` a byte of a pixel."""
        ops, (first, stop) = self.ops, columns
        own = ops.mul(ops.udiv(at, self.count(LINE_BYTES)), self.line)
        start, target = [self.at(row, own) for row in self.rows], self.at(self.out, at)
        per_byte = self.count(4 // self.kind.size * 9 * self.parts)
        weights = self.at(self.weights, ops.mul(at, per_byte))
        places = range(self.parts * 9 * self.vectors)
        taps = [self.read(self.at(weights, self.count(4 * LANES * i)), Kind.FLOAT) for i in places]

        def step(count: int, x: Any, carried: Values) -> Values:
            half = len(carried) // 2
            last, middle = carried[:half], carried[half:]
            results = []
            for i in range(count):
                at = ops.add(x, self.count(i))
                beyond = ops.icmp_signed("==", at, self.width) if i == count - 1 else None
                values = self.column(start, at, beyond)
                results.append(self.added(taps, values, 2, last))
                last, middle = self.added(taps, values, 1, middle), self.added(taps, values, 0)
            self.finish(target, ops.sub(x, self.one), results)
            return [*last, *middle]

        left = self.column(start, ops.sub(first, self.one), ops.icmp_signed("==", first, self.no))
        values = self.column(start, first)
        middle = self.added(taps, values, 1, self.added(taps, left, 0))
        carried = [*middle, *self.added(taps, values, 0)]
        together = 2 * self.parts  # columns
        after = ops.add(stop, self.one)
        rest = ops.sub(after, ops.urem(ops.sub(stop, first), self.count(together)))
        second, few = ops.add(first, self.one), partial(step, together)
        carried = list(self.loop(second, rest, self.count(together), few, carried))
        self.loop(rest, after, self.one, partial(step, 1), carried)
        return []

    def column(self, start: Values, x: Any, beyond: Any = None) -> list[list[Values]]:
        """Three lines of column ``x`` for each part; zeros where that is ``beyond`` the plane."""
        ops = self.ops
        found = []
        for part in range(self.parts):
            own = ops.add(ops.mul(x, self.pixel), ops.mul(self.part, self.count(part)))
            lines = [self.at(row, own) for row in start]
            if beyond is not None:
                lines = [ops.select(beyond, self.edge, line) for line in lines]
            found.append([self.read_line(line, self.kind) for line in lines])
        return found

    def added(
        self, taps: Values, column: list[list[Values]], dx: int, sums: Values | None = None
    ) -> Values:
        """``sums`` and the share of a column in the results, of each part vector by vector."""
        results = []
        for part, vector in product(range(self.parts), range(self.vectors)):
            total = None if sums is None else sums[part * self.vectors + vector]
            for dy in range(3):
                value = column[part][dy][vector]
                tap = taps[((part * 3 + dy) * 3 + dx) * self.vectors + vector]
                no_sum = total is None
                total = (
                    self.ops.fmul(value, tap) if no_sum else self.multiply_add(value, tap, total)
                )
            results.append(total)
        return results

    def finish(self, target: Any, first: Any, columns: list[Values]) -> None:
        """Write the results of some columns from ``first``."""
        results = [sums[: self.vectors] for sums in columns]
        if self.parts == 2:
            gates = self.gelu([value for vectors in results for value in vectors], self.kind)
            values = [value for sums in columns for value in sums[self.vectors :]]
            gated = [self.ops.fmul(*pair) for pair in zip(gates, values, strict=True)]
            results = [gated[i : i + self.vectors] for i in range(0, len(gated), self.vectors)]
        for i, vectors in enumerate(results):
            x = self.ops.add(first, self.count(i))
            self.write_line(self.at(target, self.ops.mul(x, self.out_pixel)), vectors, self.kind)


@made_once
def depthwise(parts: int, kind: Kind) -> tuple[bytes, int]:
    """The kernel of `Depthwise`."""
    return Depthwise(parts, kind).finished()


@made_once
def weighted_sum(given: Kind, made: Kind) -> tuple[bytes, int]:
    """Pointers to pairs, results and scales; the number of pixels and of channels of a result."""
    to = Writer(pointers=3, counts=2)
    pairs, out, scales, pixels, channels = to.arguments
    ops = to.ops

    def vector(place: Any, channel: Any) -> None:
        products = []
        for other in (to.count(0), channels):
            own = ops.add(channel, other)
            at = ops.mul(ops.add(ops.mul(place, to.count(2)), own), to.count(given.size))
            scale = to.read(to.at(scales, ops.mul(own, to.count(4))), Kind.FLOAT)
            products.append((to.read(to.at(pairs, at), given), scale))
        (first, its_scale), (second, other_scale) = products
        y = to.multiply_add(second, other_scale, ops.fmul(first, its_scale))
        at = ops.mul(ops.add(place, channel), to.count(made.size))
        to.write(to.at(out, at), y, made)

    to.each_vector(pixels, channels, vector)
    return to.finished()


@made_once
def gelu_times(kind: Kind) -> tuple[bytes, int]:
    """Pointers to what is changed, biases and factors; the number of pixels and of channels."""
    to = Writer(pointers=3, counts=2)
    rows, biases, others, pixels, channels = to.arguments
    ops = to.ops

    def some(count: int, index: Any, _: Values) -> Values:
        places = [ops.mul(ops.add(index, to.count(i)), channels) for i in range(count)]

        def vector(channel: Any, _: Values) -> Values:
            bias = to.read(to.at(biases, ops.mul(channel, to.count(4))), Kind.FLOAT)
            own = [ops.mul(ops.add(place, channel), to.count(kind.size)) for place in places]
            values = [ops.fadd(to.read(to.at(rows, byte), kind), bias) for byte in own]
            for byte, gate in zip(own, to.gelu(values, kind), strict=True):
                y = ops.fmul(gate, to.read(to.at(others, byte), kind))
                to.write(to.at(rows, byte), y, kind)
            return []

        to.loop(to.count(0), channels, to.count(LANES), vector)
        return []

    whole = ops.and_(pixels, to.count(-PIXELS))
    to.loop(to.count(0), whole, to.count(PIXELS), partial(some, PIXELS))
    to.loop(whole, pixels, to.count(1), partial(some, 1))
    return to.finished()


@made_once
def maxima(kind: Kind) -> tuple[bytes, int]:
    """Pointers to pixels and each channel's largest; bytes a pixel, numbers of both, at least 1."""
    to = Writer(pointers=2, counts=3)
    rows, out, pixel, pixels, channels = to.arguments
    ops = to.ops

    def vector(channel: Any, _: Values) -> Values:
        place = ops.mul(channel, to.count(kind.size))
        own = to.at(rows, place)

        def one(index: Any, largest: Values) -> Values:
            return [to.larger(largest[0], to.read(to.at(own, ops.mul(index, pixel)), kind))]

        (largest,) = to.loop(to.count(1), pixels, to.count(1), one, [to.read(own, kind)])
        to.write(to.at(out, place), largest, kind)
        return []

    to.loop(to.count(0), channels, to.count(LANES), vector)
    return to.finished()


@made_once
def clearing() -> tuple[bytes, int]:
    """Pointer to what becomes 0; numbers of bytes, of times, and of bytes from one to the next."""
    to = Writer(pointers=1, counts=3)
    rows, size, count, step = to.arguments

    def part(index: Any, _: Values) -> Values:
        own = to.at(rows, to.ops.mul(index, step))

        def vector(byte: Any, _: Values) -> Values:
            to.write(to.at(own, byte), to.constant(0), Kind.FLOAT)
            return []

        to.loop(to.count(0), size, to.count(LINE_BYTES), vector)
        return []

    to.loop(to.count(0), count, to.count(1), part)
    return to.finished()


@made_once
def rounding() -> tuple[bytes, int]:
    """Pointers to float32 and to what becomes bfloat16; the number of values."""
    to = Writer(pointers=2, counts=1)
    rows, out, count = to.arguments

    def vector(index: Any, _: Values) -> Values:
        values = to.read(to.at(rows, to.ops.mul(index, to.count(4))), Kind.FLOAT)
        to.write(to.at(out, to.ops.mul(index, to.count(2))), values, Kind.BFLOAT)
        return []

    to.loop(to.count(0), count, to.count(LANES), vector)
    return to.finished()


@made_once
def calls() -> tuple[bytes, int]:
    """Pointers to a list of calls, each `CALLED` words, and to as many; their number, and times.

    Each time but the first, words have grown by those of the second list.
    """
    to = Writer(pointers=2, counts=2)
    listed, growth, count, times = to.arguments
    ops = to.ops
    kind = ir.FunctionType(ir.VoidType(), [to.index] * (CALLED - 1))

    def once(time: Any, _: Values) -> Values:
        def call(index: Any, _: Values) -> Values:
            own = ops.mul(index, to.count(8 * CALLED))
            words = []
            for i in range(CALLED):
                place = ops.add(own, to.count(8 * i))
                word, grown = (ops.load(to.at(at, place), typ=to.index) for at in (listed, growth))
                words.append(ops.add(word, ops.mul(grown, time)))
            ops.call(ops.inttoptr(words[0], kind.as_pointer()), words[1:])
            return []

        to.loop(to.count(0), count, to.count(1), call)
        return []

    to.loop(to.count(0), times, to.count(1), once)
    return to.finished()
