"""Writes kernels that multiply matrices of bfloat16 by tiles (AMX): 16 rows of 64 bytes.

One instruction multiplies two tiles and adds to one of float32.
"""

from __future__ import annotations

import struct
from typing import Any

from llvmlite import ir

from restorecli.machine.kernels import LANES, LINE_BYTES, TILE
from restorecli.machine.kernels.writer import Values, Writer

TILE_BYTES = TILE * LINE_BYTES
BLOCK = 2 * TILE  # pixels, and results, that are worked on together


class TileWriter(Writer):
    """Writes kernels that use tiles, whose shapes are the first 64 bytes at an address."""

    def begin(self, shapes: Any) -> None:
        """Say what shapes the tiles have."""
        self._tile("ldtilecfg", shapes)

    def end(self) -> None:
        """Tiles are no longer needed."""
        self._tile("tilerelease")

    def clear(self, tile: int) -> None:
        """Fill with zeros."""
        self._tile("tilezero", tile)

    def load(self, tile: int, address: Any, row: Any) -> None:
        """Fill from rows that lie ``row`` bytes apart."""
        self._tile("tileloadd64", tile, address, row)

    def store(self, tile: int, address: Any, row: Any) -> None:
        """Write in rows that lie ``row`` bytes apart."""
        self._tile("tilestored64", tile, address, row)

    def multiply(self, sums: int, first: int, second: int) -> None:
        """Add the product of two tiles of bfloat16 to one of float32."""
        self._tile("tdpbf16ps", sums, first, second)

    def _tile(self, name: str, *given: Any) -> None:
        values = [ir.Constant(self._byte, v) if isinstance(v, int) else v for v in given]
        function = self._function(f"llvm.x86.{name}", ir.VoidType(), *(v.type for v in values))
        self.ops.call(function, values)

    def transposed(self, vectors: Values) -> Values:
        """16 vectors as the rows of a matrix; its columns."""
        vectors, places = list(vectors), range(TILE)
        for apart in (1, 2, 4, 8):
            first = [i if not i & apart else TILE + i - apart for i in places]
            second = [i + apart if not i & apart else TILE + i for i in places]
            for i in places:
                if not i & apart:
                    pair = vectors[i], vectors[i + apart]
                    vectors[i], vectors[i + apart] = (
                        self.ops.shuffle_vector(*pair, ir.Constant(self._words, order))
                        for order in (first, second)
                    )
        return vectors

    def read_some(self, address: Any, count: Any) -> Any:
        """A vector of float32, of which the first ``count`` are read and the others are 0."""
        places = ir.Constant(self._words, list(range(LANES)))
        most = self.ops.trunc(self.least(count, self.count(LANES)), ir.IntType(32))
        mask = self.ops.icmp_signed("<", places, self._spread_word(most))
        return self._call(
            "llvm.masked.expandload.v16f32", self._floats, address, mask, self.constant(0)
        )

    def _spread_word(self, word: Any) -> Any:
        nothing = ir.Constant(self._words, ir.Undefined)
        first = self.ops.insert_element(nothing, word, ir.Constant(ir.IntType(32), 0))
        return self.ops.shuffle_vector(first, nothing, ir.Constant(self._words, [0] * LANES))

    def paired(self, low: Any, high: Any) -> Any:
        """Two vectors of float32, rounded to bfloat16, value by value in words."""
        low, high = (self._as_words(vector) for vector in (low, high))
        return self.ops.or_(low, self.ops.shl(high, self.words(16)))

    def _as_words(self, vector: Any) -> Any:
        halves = self.ops.fptrunc(vector, self._halves)
        return self.ops.zext(self.ops.bitcast(halves, self._shorts), self._words)

    def rest(self, vector: Any) -> Any:
        """What rounding to bfloat16 loses of a vector of float32."""
        return self.ops.fsub(
            vector, self.ops.fpext(self.ops.fptrunc(vector, self._halves), self._floats)
        )


def shapes(channels: int) -> list[int]:
    """Of tiles, as words: four of sums, two of features and two of weights."""
    tiles = [(TILE, 64)] * 4 + [(TILE, 2 * channels)] * 2 + [(channels // 2, 64)] * 2
    rows = [height for height, _ in tiles]
    columns = [width for _, width in tiles]
    packed = struct.pack("<BB14x16H16B", 1, 0, *columns, *[0] * 8, *rows, *[0] * 8)
    return list(struct.unpack("<8q", packed))
