"""Kernels for products of features and weights.

Weights are packed first, in the order in which they are read. Features are multiplied by tiles, or
in float32 vector by vector.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from restorecli.machine.kernels import LANES, LINE_BYTES, TILE, Kind
from restorecli.machine.kernels.code import made_once
from restorecli.machine.kernels.tiles import BLOCK, TileWriter, shapes
from restorecli.machine.kernels.writer import Values, Writer

CACHED_BYTES = 24_576  # of features that are read again and again
# Vectors of results and pixels that are worked on together: 24 sums in registers, or fewer.
PIXELS_OF = {4: 6, 3: 8, 2: 12, 1: 14}
CHANNELS = 128  # whose weights stay in the first cache


def each_tile(to: TileWriter, write: Callable[[Any, Any, Values], None]) -> None:
    """Hand the columns of every 16×16 values of a matrix to ``write``, after row and column.

    The arguments are those of `packing`; the row is the one that is packed.
    """
    matrix, _, rows, columns, wide, start = to.arguments
    ops, some, edge = to.ops, to.count(TILE), to.zeros()

    def some_rows(row: Any, _: Values) -> Values:
        def some_columns(column: Any, _: Values) -> Values:
            values, left = [], ops.sub(columns, column)
            for i in range(TILE):
                own = ops.add(row, to.count(i))
                at = to.at(matrix, ops.mul(ops.add(ops.mul(own, columns), column), to.count(4)))
                at = ops.select(ops.icmp_signed("<", own, rows), at, edge)
                values.append(to.read_some(at, left))
            write(ops.add(row, start), column, to.transposed(values))
            return []

        to.loop(to.count(0), wide, some, some_columns)
        return []

    to.loop(to.count(0), rows, some, some_rows)


@made_once
def packing(parts: int) -> tuple[bytes, int]:
    """Pointers to a float32 matrix and to what is packed, and four numbers.

    The numbers of rows, of columns, of columns that are packed, and of the first row among those
    that are packed. Packed are, for every 16 rows and each part, pairs of columns in bfloat16: 16
    words of two values. A second part is what the first one loses. What lacks to whole tiles of
    rows, and to the number of columns that are packed, is 0.
    """
    to = TileWriter(pointers=2, counts=4)
    packed, wide = to.arguments[1], to.arguments[4]
    ops = to.ops
    part_bytes = ops.mul(wide, to.count(2 * TILE))

    def write(row: Any, column: Any, values: Values) -> None:
        block = ops.mul(ops.ashr(row, to.count(4)), to.count(parts))
        start = ops.add(ops.mul(block, part_bytes), ops.mul(column, to.count(2 * TILE)))
        for part in range(parts):
            own = ops.add(start, ops.mul(part_bytes, to.count(part)))
            for i in range(0, TILE, 2):
                at = to.at(packed, ops.add(own, to.count(2 * TILE * i)))
                ops.store(to.paired(*values[i : i + 2]), at).align = 4
            values = [to.rest(value) for value in values]

    each_tile(to, write)
    return to.finished()


def place_of(to: Writer, channel: Any, kind: Kind, line: Any) -> Any:
    """Byte of a channel in a pixel whose lines of channels are ``line`` bytes apart."""
    ops, byte = to.ops, to.ops.mul(channel, to.count(kind.size))
    whole = ops.mul(ops.udiv(byte, to.count(LINE_BYTES)), line)
    return ops.add(whole, ops.and_(byte, to.count(LINE_BYTES - 1)))


def description(results: int, channels: int, parts: int, weights: int, biases: int) -> list[int]:
    """What `Product` reads of weights at an address, in words."""
    steps = -(-channels // BLOCK)
    while channels % steps or channels // steps % 2:
        steps += 1
    own = channels // steps  # of a tile
    some = max(CACHED_BYTES // (2 * channels) // BLOCK * BLOCK, BLOCK)
    return [*shapes(own), weights, biases, channels, results, own, steps, some]


class Product(TileWriter):
    """Features of pixels times weights, plus a bias, in place of or added to what is there.

    Pointers to features in bfloat16, results and a description: the shapes of tiles, the addresses
    of packed weights and of biases, and the numbers of channels, of results, of channels and steps
    of a tile, and of pixels whose features stay in the cache. The number of pixels, at least 32,
    and of bytes from pixel to pixel and from line to line of channels in the results.
    """

    def __init__(self, parts: int, made: Kind, *, add: bool) -> None:
        super().__init__(pointers=3, counts=3)
        self.made, self.add, self.parts, ops = made, add, parts, self.ops
        self.rows, self.out, described, self.pixels, self.out_pixel, self.out_line = self.arguments
        self.weights, self.biases = (
            ops.load(self.at(described, self.count(64 + 8 * i)), typ=self._pointer) for i in (0, 1)
        )
        channels, results, own, self.steps, some = (
            ops.load(self.at(described, self.count(80 + 8 * i)), typ=self.index) for i in range(5)
        )
        self.results = results
        self.sums = self.room(self.count(4 * BLOCK * BLOCK))
        self.pixel = ops.mul(channels, self.count(2))  # in bytes, as all are
        self.step = ops.mul(own, self.count(2))  # of features
        self.tile = ops.mul(own, self.count(2 * TILE))  # of weights
        self.of_part = ops.mul(self.tile, self.steps)
        self.of_results = ops.mul(self.of_part, self.count(parts))
        self.begin(described)
        self.loop(self.count(0), self.pixels, some, partial(self.some_pixels, some))
        self.end()

    def some_pixels(self, some: Any, first: Any, _: Values) -> Values:
        """Pixels from ``first``; the last 32 with some of those before."""
        ops, block = self.ops, self.count(BLOCK)
        stop = self.least(ops.add(first, some), self.pixels)

        def results(tiles: int, result: Any, _: Values) -> Values:
            def pixels(at: Any, _: Values) -> Values:
                begin = self.least(at, ops.sub(self.pixels, block))
                features = self.at(self.rows, ops.mul(begin, self.pixel))
                out = self.at(self.out, ops.mul(begin, self.out_pixel))
                self.add_up(features, result, tiles)
                self.finish(out, ops.sub(at, begin), result, tiles)
                return []

            self.loop(first, stop, block, pixels)
            return []

        whole = ops.and_(self.results, self.count(-BLOCK))
        self.loop(self.count(0), whole, block, partial(results, 2))
        self.loop(whole, self.results, block, partial(results, 1))
        return []

    def add_up(self, features: Any, result: Any, tiles: int) -> None:
        """Products of 32 pixels' features with the weights of one or two tiles of results."""
        ops = self.ops
        for i in range(2 * tiles):
            self.clear(i)
        lower = ops.mul(self.pixel, self.count(TILE))
        own = ops.mul(ops.ashr(result, self.count(4)), self.of_results)

        def step(index: Any, _: Values) -> Values:
            rows = self.at(features, ops.mul(index, self.step))
            weights = self.at(self.weights, ops.add(own, ops.mul(index, self.tile)))
            self.load(4, rows, self.pixel)
            self.load(5, self.at(rows, lower), self.pixel)
            for part in range(self.parts):
                of_part = self.at(weights, ops.mul(self.of_part, self.count(part)))
                for j in range(tiles):
                    at = self.at(of_part, ops.mul(self.of_results, self.count(j)))
                    self.load(6 + j, at, self.count(LINE_BYTES))
                for i in range(2):
                    for j in range(tiles):
                        self.multiply(tiles * i + j, 4 + i, 6 + j)
            return []

        self.loop(self.count(0), self.steps, self.count(1), step)

    def finish(self, target: Any, old: Any, result: Any, tiles: int) -> None:
        """Write the results of 32 pixels but for the first ``old``."""
        ops, row = self.ops, self.count(4 * BLOCK)
        for i in range(2):
            for j in range(tiles):
                at = self.at(self.sums, self.count(4 * (i * TILE * BLOCK + j * TILE)))
                self.store(tiles * i + j, at, row)
        places = [ops.add(result, self.count(j * TILE)) for j in range(tiles)]
        at = [self.at(self.biases, ops.mul(place, self.count(4))) for place in places]
        biases = [self.read(address, Kind.FLOAT) for address in at]
        outs = [place_of(self, place, self.made, self.out_line) for place in places]

        def pixel(index: Any, _: Values) -> Values:
            sums = self.at(self.sums, ops.mul(index, row))
            out = self.at(target, ops.mul(index, self.out_pixel))
            for j, bias in enumerate(biases):
                y = self.read(self.at(sums, self.count(4 * j * TILE)), Kind.FLOAT)
                at = self.at(out, outs[j])
                y = ops.fadd(y, bias)
                if self.add:
                    y = ops.fadd(y, self.read(at, self.made))
                self.write(at, y, self.made)
            return []

        self.loop(old, self.count(BLOCK), self.count(1), pixel)


@made_once
def product(parts: int, made: Kind, *, add: bool) -> tuple[bytes, int]:
    """The kernel of `Product`."""
    return Product(parts, made, add=add).finished()


def vectors_of(results: int) -> int:
    """Vectors of results, of those that divide them, that `FloatProduct` works on together."""
    return next(vectors for vectors in PIXELS_OF if results % (vectors * LANES) == 0)


@made_once
def float_packing(vectors: int) -> tuple[bytes, int]:
    """As `packing`, without pairs: of some vectors of rows column after column, in float32."""
    to = TileWriter(pointers=2, counts=4)
    packed, wide = to.arguments[1], to.arguments[4]
    ops = to.ops
    of_column = to.count(vectors * LINE_BYTES)

    def write(row: Any, column: Any, values: Values) -> None:
        tile = ops.ashr(row, to.count(4))
        block, own = ops.sdiv(tile, to.count(vectors)), ops.srem(tile, to.count(vectors))
        first = ops.mul(ops.add(ops.mul(block, wide), column), of_column)
        first = ops.add(first, ops.mul(own, to.count(LINE_BYTES)))
        for i, value in enumerate(values):
            at = to.at(packed, ops.add(first, ops.mul(to.count(i), of_column)))
            to.write(at, value, Kind.FLOAT)

    each_tile(to, write)
    return to.finished()


class FloatProduct(Writer):
    """The same as `Product` in float32, of any number of pixels.

    Pointers to features, results, packed weights and biases; the numbers of pixels, of channels
    and of results, which divide by some vectors, and of bytes from pixel to pixel and from line to
    line of channels in the results.
    """

    def __init__(self, vectors: int, *, add: bool) -> None:
        super().__init__(pointers=4, counts=5)
        self.vectors, self.add, ops = vectors, add, self.ops
        self.rows, self.out, self.weights, self.biases, pixels, channels, results = self.arguments[
            :7
        ]
        self.out_pixel, self.out_line = self.arguments[7:]
        self.pixel = ops.mul(channels, self.count(4))
        block, some = self.count(vectors * LANES), self.count(CHANNELS)
        together = self.count(PIXELS_OF[vectors])
        whole = ops.mul(ops.sdiv(pixels, together), together)

        def of_results(result: Any, _: Values) -> Values:
            def of_channels(channel: Any, _: Values) -> Values:
                stop = self.least(ops.add(channel, some), channels)
                part = result, channel, stop
                step = partial(self.some_pixels, part, PIXELS_OF[vectors])
                self.loop(self.count(0), whole, together, step)
                self.loop(whole, pixels, self.count(1), partial(self.some_pixels, part, 1))
                return []

            self.loop(self.count(0), channels, some, of_channels)
            return []

        self.loop(self.count(0), results, block, of_results)

    def some_pixels(self, part: tuple[Any, Any, Any], count: int, pixel: Any, _: Values) -> Values:
        """Products of a few pixels with some channels' weights of some vectors of results."""
        ops, (result, channel, stop) = self.ops, part
        line, targets = place_of(self, result, Kind.FLOAT, self.out_line), []
        for i in range(count):
            own = ops.add(ops.mul(ops.add(pixel, self.count(i)), self.out_pixel), line)
            for j in range(self.vectors):
                at = ops.add(own, ops.mul(self.out_line, self.count(j)))
                targets.append(self.at(self.out, at))
        places = [self.count(LINE_BYTES * j) for j in range(self.vectors)]
        first = ops.icmp_signed("==", channel, self.count(0))
        own = self.at(self.biases, ops.mul(result, self.count(4)))
        # The first products are added to a bias and what was there before, later ones to these.
        biases = [self.read(self.at(own, place), Kind.FLOAT) for place in places]
        starts = []
        for i, target in enumerate(targets):
            bias, known = biases[i % self.vectors], self.read(target, Kind.FLOAT)
            starts.append(ops.select(first, ops.fadd(bias, known) if self.add else bias, known))
        rows = self.at(self.rows, ops.mul(pixel, self.pixel))
        weights = self.at(self.weights, ops.mul(result, self.pixel))

        def step(index: Any, carried: Values) -> Values:
            of_channel = self.at(weights, ops.mul(index, self.count(LINE_BYTES * self.vectors)))
            values = [self.read(self.at(of_channel, place), Kind.FLOAT) for place in places]
            found = []
            for i in range(count):
                own = ops.add(ops.mul(self.pixel, self.count(i)), ops.mul(index, self.count(4)))
                feature = self.read_one(self.at(rows, own))
                for j, value in enumerate(values):
                    total = carried[i * self.vectors + j]
                    found.append(self.multiply_add(feature, value, total))
            return found

        zeros = [self.constant(0)] * len(targets)
        sums = self.loop(channel, stop, self.count(1), step, zeros)
        for target, start, total in zip(targets, starts, sums, strict=True):
            self.write(target, ops.fadd(start, total), Kind.FLOAT)
        return []


@made_once
def float_product(vectors: int, *, add: bool) -> tuple[bytes, int]:
    """The kernel of `FloatProduct`."""
    return FloatProduct(vectors, add=add).finished()
