"""Kernels for sums over pixels: of products of channels, of channels, and of their squares."""

from __future__ import annotations

from functools import partial
from typing import Any

from llvmlite import ir

from restorecli.machine.kernels import LANES, LINE_BYTES, TILE, Kind
from restorecli.machine.kernels.code import made_once
from restorecli.machine.kernels.tiles import BLOCK, TILE_BYTES, TileWriter
from restorecli.machine.kernels.writer import BFloat, Values, Writer

GRAM_BYTES, MOST_PIXELS = 2**19, 256  # of what is packed, and of pixels, in the second cache
GROUP = 64  # pixels whose sums are added up before they join the rest: less rounding
ROWS = 8  # of a matrix of sums that are worked on together


class Gram(TileWriter):
    """Sums over pixels: products of some channels with others, and of each with itself.

    Pointers to some channels of the first pixel, to others, both in bfloat16, to sums of float32
    that are added to, and to the shapes of tiles. The sums: (A, B) products, (A,) sums and (A,)
    squares of the first channels, (B,) squares of the others. Bytes from pixel to pixel, for both;
    numbers of pixels, and of channels A and B.
    """

    def __init__(self) -> None:
        super().__init__(pointers=4, counts=5)
        first, second, sums, shapes_, own, others, self.pixels, one, other = self.arguments
        ops, self.edge = self.ops, self.zeros()
        some = self.pixels_together(ops.add(one, other))
        self.steps = ops.sdiv(some, self.count(BLOCK))
        self.of_tiles = ops.mul(self.steps, self.count(TILE_BYTES))
        self.row = ops.mul(other, self.count(4))
        packed = [
            self.room(ops.mul(ops.ashr(channels, self.count(4)), self.of_tiles))
            for channels in (one, other)
        ]
        its_sums = self.at(sums, ops.mul(one, self.row))
        its_squares = self.at(its_sums, ops.mul(one, self.count(4)))
        squares = self.at(its_squares, ops.mul(one, self.count(4)))
        self.begin(shapes_)

        def some_pixels(pixel: Any, _: Values) -> Values:
            left = ops.sub(self.pixels, pixel)
            self.pixel = own
            rows = self.at(first, ops.mul(pixel, own))
            self.pack(rows, left, one, packed[0], [its_squares, its_sums])
            self.pixel = others
            rows = self.at(second, ops.mul(pixel, others))
            self.pack(rows, left, other, packed[1], [squares])
            self.multiply_all(packed, sums, one, other)
            return []

        self.loop(self.count(0), self.pixels, some, some_pixels)
        self.end()

    def pixels_together(self, channels: Any) -> Any:
        """How many pixels are worked on together."""
        pixels = self.ops.udiv(self.count(GRAM_BYTES // 2), channels)
        pixels = self.most(self.ops.and_(pixels, self.count(-BLOCK)), self.count(BLOCK))
        return self.least(pixels, self.count(MOST_PIXELS))

    def pack(self, rows: Any, left: Any, channels: Any, packed: Any, alone: Values) -> None:
        """Write tiles of some pixels, in pairs, and add their squares up.

        If sums of them are asked for, too, as rows of channels, otherwise as rows of pairs.
        """
        ops, turned = self.ops, len(alone) == 2

        def tile(channel: Any, _: Values) -> Values:
            group = self.at(packed, ops.mul(ops.ashr(channel, self.count(4)), self.of_tiles))
            own = self.at(rows, ops.mul(channel, self.count(2)))

            def step(index: Any, totals: Values) -> Values:
                first = ops.mul(index, self.count(BLOCK))
                target = self.at(group, ops.mul(index, self.count(TILE_BYTES)))
                if turned:
                    return self.turn(own, first, left, target, totals)

                def one(i: Any, totals: Values) -> Values:
                    word = self.pair(own, ops.add(first, ops.mul(i, self.count(2))), left)
                    at = self.at(target, ops.mul(i, self.count(LINE_BYTES)))
                    ops.store(word, at).align = LINE_BYTES
                    return self.added(totals, word)

                return self.loop(self.count(0), self.count(TILE), self.count(1), one, totals)

            zeros = [self.constant(0)] * 4
            totals = self.loop(self.count(0), self.steps, self.count(1), step, zeros)
            for i, known in enumerate(alone):
                at = self.at(known, ops.mul(channel, self.count(4)))
                total = ops.fadd(*totals[2 * i : 2 * i + 2])
                self.write(at, ops.fadd(self.read(at, Kind.FLOAT), total), Kind.FLOAT)
            return []

        self.loop(self.count(0), channels, self.count(TILE), tile)

    def turn(self, rows: Any, first: Any, left: Any, target: Any, totals: Values) -> Values:
        """Write a tile of pairs as rows of channels."""
        words = []
        for i in range(TILE):
            word = self.pair(rows, self.ops.add(first, self.count(2 * i)), left)
            totals = self.added(totals, word)
            words.append(word)
        for i, word in enumerate(self.transposed(words)):
            at = self.at(target, self.count(LINE_BYTES * i))
            self.ops.store(word, at).align = LINE_BYTES
        return totals

    def pair(self, rows: Any, pixel: Any, left: Any) -> Any:
        """Channels of two pixels, paired in words; of those that are ``left``, otherwise 0."""
        halves = []
        for j in range(2):
            place = self.ops.add(pixel, self.count(j))
            at = self.at(rows, self.ops.mul(place, self.pixel))
            at = self.ops.select(self.ops.icmp_signed("<", place, left), at, self.edge)
            halves.append(self.ops.zext(self._load(at, self._shorts, 2), self._words))
        return self.ops.or_(halves[0], self.ops.shl(halves[1], self.words(16)))

    def added(self, totals: Values, word: Any) -> Values:
        """Sums of squares and of values, two of each that do not wait for one another."""
        squares, more_squares, sums, more_sums = totals
        squares = self.multiply_pairs(squares, word, word)
        sums = self.multiply_pairs(sums, word, self.words(0x3F80_3F80))  # 1 and 1
        return [more_squares, squares, more_sums, sums]

    def multiply_pairs(self, sums: Any, first: Any, second: Any) -> Any:
        """``sums`` and products of both values of each word."""
        kind = ir.VectorType(BFloat(), 2 * LANES)
        first, second = (self.ops.bitcast(words, kind) for words in (first, second))
        return self._call("llvm.x86.avx512bf16.dpbf16ps.512", self._floats, sums, first, second)

    def multiply_all(self, packed: Values, sums: Any, one: Any, other: Any) -> None:
        """Add products of all tiles to the sums, up to two by two."""
        block = self.count(BLOCK)
        wholes = [self.ops.and_(channels, self.count(-BLOCK)) for channels in (one, other)]
        for high, rows in ((2, (self.count(0), wholes[0])), (1, (wholes[0], one))):
            for wide, columns in ((2, (self.count(0), wholes[1])), (1, (wholes[1], other))):
                self.loop(
                    *rows,
                    block,
                    partial(self.multiply_row, packed, sums, (high, wide), (*columns, block)),
                )

    def multiply_row(
        self,
        packed: Values,
        sums: Any,
        tiles: tuple[int, int],
        columns: tuple[Any, Any, Any],
        row: Any,
        _: Values,
    ) -> Values:
        """The same in one row of blocks of tiles."""
        ops, (high, wide) = self.ops, tiles

        def places(column: Any) -> list[tuple[int, Any]]:
            found = []
            for i in range(high):
                at = ops.mul(ops.add(row, self.count(TILE * i)), self.row)
                for j in range(wide):
                    own = ops.mul(ops.add(column, self.count(TILE * j)), self.count(4))
                    found.append((i * wide + j, self.at(sums, ops.add(at, own))))
            return found

        def multiplied(column: Any, _: Values) -> Values:
            for tile, at in places(column):
                self.load(tile, at, self.row)
            starts = [
                self.at(base, ops.mul(ops.ashr(channel, self.count(4)), self.of_tiles))
                for base, channel in zip(packed, (row, column), strict=True)
            ]

            def step(index: Any, _: Values) -> Values:
                for side, count in enumerate(tiles):
                    at = self.at(starts[side], ops.mul(index, self.count(TILE_BYTES)))
                    for i in range(count):
                        own = self.at(at, ops.mul(self.of_tiles, self.count(i)))
                        self.load(4 + 2 * side + i, own, self.count(LINE_BYTES))
                for i in range(high):
                    for j in range(wide):
                        self.multiply(i * wide + j, 4 + i, 6 + j)
                return []

            self.loop(self.count(0), self.steps, self.count(1), step)
            for tile, at in places(column):
                self.store(tile, at, self.row)
            return []

        self.loop(*columns, multiplied)
        return []


@made_once
def gram() -> tuple[bytes, int]:
    """The kernel of `Gram`."""
    return Gram().finished()


class FloatGram(Writer):
    """What `Gram` adds up, in float32: it takes the same, and does not read shapes."""

    def __init__(self) -> None:
        super().__init__(pointers=4, counts=5)
        first, second, sums, _, self.own, self.others, self.pixels, one, other = self.arguments
        ops = self.ops
        self.row = ops.mul(other, self.count(4))
        its_sums = self.at(sums, ops.mul(one, self.row))
        its_squares = self.at(its_sums, ops.mul(one, self.count(4)))
        squares = self.at(its_squares, ops.mul(one, self.count(4)))

        def group(pixel: Any, _: Values) -> Values:
            self.some = self.least(ops.sub(self.pixels, pixel), self.count(GROUP))
            rows = self.at(first, ops.mul(pixel, self.own))
            others = self.at(second, ops.mul(pixel, self.others))
            self.add_alone(rows, self.own, one, [its_squares, its_sums])
            self.add_alone(others, self.others, other, [squares])
            self.multiply_all(rows, others, sums, one, other)
            return []

        self.loop(self.count(0), self.pixels, self.count(GROUP), group)

    def multiply_all(self, rows: Any, others: Any, sums: Any, one: Any, other: Any) -> None:
        """Add products of some pixels to the sums."""
        ops, wide = self.ops, 3 * LANES

        def row(channel: Any, _: Values) -> Values:
            own = self.at(rows, ops.mul(channel, self.count(4)))
            target = self.at(sums, ops.mul(channel, self.row))
            whole = ops.mul(ops.sdiv(other, self.count(wide)), self.count(wide))
            for vectors, (start, stop) in ((3, (self.count(0), whole)), (1, (whole, other))):
                step = partial(self.multiply_rows, own, others, target, vectors)
                self.loop(start, stop, self.count(vectors * LANES), step)
            return []

        self.loop(self.count(0), one, self.count(ROWS), row)

    def add_alone(self, rows: Any, apart: Any, channels: Any, kinds: Values) -> None:
        """Add squares of some pixels up, and values if there are sums for them."""
        ops = self.ops

        def vector(channel: Any, _: Values) -> Values:
            own = self.at(rows, ops.mul(channel, self.count(4)))

            def pixel(index: Any, totals: Values) -> Values:
                value = self.read(self.at(own, ops.mul(index, apart)), Kind.FLOAT)
                square = self.multiply_add(value, value, totals[0])
                return [square, *(ops.fadd(total, value) for total in totals[1:])]

            zeros = [self.constant(0) for _ in kinds]
            totals = self.loop(self.count(0), self.some, self.count(1), pixel, zeros)
            for known, total in zip(kinds, totals, strict=True):
                at = self.at(known, ops.mul(channel, self.count(4)))
                self.write(at, ops.fadd(self.read(at, Kind.FLOAT), total), Kind.FLOAT)
            return []

        self.loop(self.count(0), channels, self.count(LANES), vector)

    def multiply_rows(
        self, first: Any, second: Any, target: Any, vectors: int, channel: Any, _: Values
    ) -> Values:
        """Products of a few channels with some vectors of others, added to the sums."""
        ops = self.ops
        others = self.at(second, ops.mul(channel, self.count(4)))
        places = [self.count(LINE_BYTES * j) for j in range(vectors)]

        def pixel(index: Any, carried: Values) -> Values:
            at = self.at(others, ops.mul(index, self.others))
            values = [self.read(self.at(at, place), Kind.FLOAT) for place in places]
            own, found = self.at(first, ops.mul(index, self.own)), []
            for i in range(ROWS):
                one = self.read_one(self.at(own, self.count(4 * i)))
                for j, value in enumerate(values):
                    found.append(self.multiply_add(one, value, carried[i * vectors + j]))
            return found

        zeros = [self.constant(0)] * (ROWS * vectors)
        totals = self.loop(self.count(0), self.some, self.count(1), pixel, zeros)
        for i in range(ROWS):
            own = ops.add(ops.mul(self.row, self.count(i)), ops.mul(channel, self.count(4)))
            for j, place in enumerate(places):
                at = self.at(self.at(target, own), place)
                total = ops.fadd(self.read(at, Kind.FLOAT), totals[i * vectors + j])
                self.write(at, total, Kind.FLOAT)
        return []


@made_once
def float_gram() -> tuple[bytes, int]:
    """The kernel of `FloatGram`."""
    return FloatGram().finished()


@made_once
def sums_of_squares(kind: Kind) -> tuple[bytes, int]:
    """Pointers to pixels and to sums that are 0; the number of pixels and of channels.

    A few pixels are added up first, then these sums: the fewer terms, the less rounding.
    """
    to = Writer(pointers=2, counts=2)
    rows, sums, pixels, channels = to.arguments
    ops = to.ops

    def group(first: Any, _: Values) -> Values:
        end = ops.add(first, to.count(GROUP))
        stop = to.least(end, pixels)

        def vector(channel: Any, _: Values) -> Values:
            def pixel(index: Any, carried: Values) -> Values:
                place = ops.add(ops.mul(index, channels), channel)
                value = to.read(to.at(rows, ops.mul(place, to.count(kind.size))), kind)
                return [to.multiply_add(value, value, carried[0])]

            (some,) = to.loop(first, stop, to.count(1), pixel, [to.constant(0)])
            at = to.at(sums, ops.mul(channel, to.count(4)))
            to.write(at, ops.fadd(to.read(at, Kind.FLOAT), some), Kind.FLOAT)
            return []

        to.loop(to.count(0), channels, to.count(LANES), vector)
        return []

    to.loop(to.count(0), pixels, to.count(GROUP), group)
    return to.finished()
