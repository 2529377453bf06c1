"""Writes kernels for LLVM, which makes machine code for this processor: no compiler is needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from restorecli.machine.kernels import LANES, LINE_BYTES, Kind
from restorecli.machine.kernels.code import code_of

HIGH_HALF = 0xFFFF0000
Values = Sequence[Any]  # of LLVM


# GELU beyond ±limit, and the degree in x² of the polynomial below it: no error that rounding to
# the kind of features leaves to be seen.
GELU = {Kind.FLOAT: (5.3, 14), Kind.BFLOAT: (4.6, 10)}


class BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's type ``bfloat``, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BFloat)

    def __hash__(self) -> int:
        return hash(BFloat)


class Writer:
    """Writes a kernel: a function of pointers and then of counts, without a result."""

    def __init__(self, pointers: int, counts: int) -> None:
        self._byte, self.index = ir.IntType(8), ir.IntType(64)
        self._pointer = ir.PointerType()
        self._float = ir.FloatType()
        self._floats = ir.VectorType(self._float, LANES)
        self._words = ir.VectorType(ir.IntType(32), LANES)
        self._shorts = ir.VectorType(ir.IntType(16), LANES)
        self._halves = ir.VectorType(BFloat(), LANES)
        self._module = ir.Module()
        kinds = [self._pointer] * pointers + [self.index] * counts
        function = ir.Function(self._module, ir.FunctionType(ir.VoidType(), kinds), "kernel")
        self.arguments: Values = function.args
        self.ops = ir.IRBuilder(function.append_basic_block())

    def count(self, value: int) -> Any:
        """A constant count of things or bytes."""
        return ir.Constant(self.index, value)

    def constant(self, value: float) -> Any:
        """A vector of one float32 value."""
        return ir.Constant(
            self._floats, [ir.Constant(self._float, float(np.float32(value)))] * LANES
        )

    def words(self, value: int) -> Any:
        """A vector of one 32-bit word."""
        return ir.Constant(self._words, [value] * LANES)

    def at(self, pointer: Any, byte: Any) -> Any:
        """The address so many bytes further."""
        return self.ops.gep(pointer, [byte], source_etype=self._byte)

    def least(self, first: Any, second: Any) -> Any:
        """The smaller of two counts."""
        return self.ops.select(self.ops.icmp_signed("<", first, second), first, second)

    def most(self, first: Any, second: Any) -> Any:
        """The larger of two counts."""
        return self.ops.select(self.ops.icmp_signed("<", first, second), second, first)

    def loop(
        self,
        first: Any,
        stop: Any,
        step: Any,
        body: Callable[[Any, Values], Values],
        carried: Values = (),
    ) -> Values:
        """Do ``body`` with ``first``, ``first + step`` … below ``stop``, and what it returned last.

        Returns what the last one returned; ``carried`` if there was none.
        """
        ops = self.ops
        before = ops.block
        inside, after = ops.append_basic_block(), ops.append_basic_block()
        ops.cbranch(ops.icmp_signed("<", first, stop), inside, after)
        ops.position_at_end(inside)
        index, values = ops.phi(self.index), [ops.phi(value.type) for value in carried]
        results = body(index, values)
        following = ops.add(index, step)
        end = ops.block
        ops.cbranch(ops.icmp_signed("<", following, stop), inside, after)
        for phi, start, result in zip(
            [index, *values], [first, *carried], [following, *results], strict=True
        ):
            phi.add_incoming(start, before)
            phi.add_incoming(result, end)
        ops.position_at_end(after)
        outcomes = []
        for start, result in zip(carried, results, strict=True):
            outcome = ops.phi(start.type)
            outcome.add_incoming(start, before)
            outcome.add_incoming(result, end)
            outcomes.append(outcome)
        return outcomes

    def each_vector(self, pixels: Any, channels: Any, body: Callable[[Any, Any], None]) -> None:
        """Do ``body`` with the place of each pixel, in values, and each vector's first channel."""

        def pixel(index: Any, _: Values) -> Values:
            place = self.ops.mul(index, channels)

            def vector(channel: Any, _: Values) -> Values:
                body(place, channel)
                return []

            self.loop(self.count(0), channels, self.count(LANES), vector)
            return []

        self.loop(self.count(0), pixels, self.count(1), pixel)

    def read(self, address: Any, kind: Kind) -> Any:
        """A vector of values in their order, as float32."""
        if kind == Kind.BFLOAT:
            return self.ops.fpext(self._load(address, self._halves, 2), self._floats)
        return self._load(address, self._floats, 4)

    def read_one(self, address: Any) -> Any:
        """A vector of one float32 value at an address."""
        return self._spread(self.ops.load(address, typ=self._float))

    def write(self, address: Any, values: Any, kind: Kind) -> None:
        """A vector of float32 values in their order, rounded to ``kind``."""
        if kind == Kind.BFLOAT:
            values = self.ops.fptrunc(values, self._halves)
        self.ops.store(values, address).align = kind.size

    def read_line(self, address: Any, kind: Kind) -> Values:
        """A line: one vector of float32, or two of bfloat16, from the low halves of words first."""
        if kind == Kind.FLOAT:
            return [self.read(address, kind)]
        words = self._load(address, self._words, 2)
        halves = self.ops.shl(words, self.words(16)), self.ops.and_(words, self.words(HIGH_HALF))
        return [self.ops.bitcast(half, self._floats) for half in halves]

    def write_line(self, address: Any, vectors: Values, kind: Kind) -> None:
        """What ``read_line`` reads."""
        if kind == Kind.FLOAT:
            self.write(address, vectors[0], kind)
            return
        low, high = (
            self.ops.zext(
                self.ops.bitcast(self.ops.fptrunc(vector, self._halves), self._shorts), self._words
            )
            for vector in vectors
        )
        words = self.ops.or_(low, self.ops.shl(high, self.words(16)))
        self.ops.store(words, address).align = kind.size

    def _load(self, address: Any, kind: Any, align: int) -> Any:
        loaded = self.ops.load(address, typ=kind)
        loaded.align = align
        return loaded

    def multiply_add(self, first: Any, second: Any, added: Any) -> Any:
        """The product plus ``added``, rounded once."""
        return self._call("llvm.fma.v16f32", self._floats, first, second, added)

    def larger(self, first: Any, second: Any) -> Any:
        """The larger of two values, place by place."""
        return self._call("llvm.maxnum.v16f32", self._floats, first, second)

    def smaller(self, first: Any, second: Any) -> Any:
        """The smaller of two values, place by place."""
        return self._call("llvm.minnum.v16f32", self._floats, first, second)

    def gelu(self, vectors: Values, kind: Kind) -> Values:
        """x·Φ(x) of each, where Φ − 1/2 is x times a polynomial in x², up to a limit."""
        ops, (limit, degree) = self.ops, GELU[kind]
        near = [self.larger(x, self.constant(-limit)) for x in vectors]
        near = [self.smaller(x, self.constant(limit)) for x in near]
        squares = [ops.fmul(x, x) for x in near]
        to_unit = self.constant(2 / limit**2), self.constant(-1)
        units = [self.multiply_add(square, *to_unit) for square in squares]
        terms = [self.constant(term) for term in gelu_polynomial(limit, degree)]
        # Two chains of half the length do not wait for one another.
        square_units = [ops.fmul(unit, unit) for unit in units]
        even, odd = terms[0::2], terms[1::2]
        chains = [[term] * len(units) for term in (even.pop(), odd.pop())]
        while even or odd:
            for i, left in enumerate((even, odd)):
                if left:
                    following = zip(chains[i], square_units, strict=True)
                    term = left.pop()
                    chains[i] = [self.multiply_add(sum_, u, term) for sum_, u in following]
        joined = zip(chains[1], units, chains[0], strict=True)
        slopes = [self.multiply_add(odd_, unit, even_) for odd_, unit, even_ in joined]
        half = self.constant(0.5)
        parts = [self.multiply_add(x, slope, half) for x, slope in zip(near, slopes, strict=True)]
        return [ops.fmul(x, part) for x, part in zip(vectors, parts, strict=True)]

    def mean(self, vectors: Values) -> Any:
        """The mean of all values of some vectors, in every place of one."""
        sums = list(vectors)
        while len(sums) > 1:
            pairs = [self.ops.fadd(*sums[i : i + 2]) for i in range(0, len(sums) - 1, 2)]
            sums = pairs + sums[2 * len(pairs) :]
        add = self._function(
            "llvm.vector.reduce.fadd.v16f32", self._float, self._float, sums[0].type
        )
        total = self.ops.call(add, [ir.Constant(self._float, -0.0), sums[0]], fastmath=("reassoc",))
        return self.ops.fmul(self._spread(total), self.constant(1 / (len(vectors) * LANES)))

    def inverse_root(self, x: Any) -> Any:
        """1 / √x of a vector with the same value in every place."""
        first = self.ops.extract_element(x, ir.Constant(ir.IntType(32), 0))
        root = self._call("llvm.sqrt.f32", self._float, first)
        return self._spread(self.ops.fdiv(ir.Constant(self._float, 1.0), root))

    def _spread(self, value: Any) -> Any:
        nothing = ir.Constant(self._floats, ir.Undefined)
        first = self.ops.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
        return self.ops.shuffle_vector(first, nothing, ir.Constant(self._words, [0] * LANES))

    def _call(self, name: str, result: Any, *values: Any) -> Any:
        return self.ops.call(self._function(name, result, *(v.type for v in values)), values)

    def _function(self, name: str, result: Any, *kinds: Any) -> Any:
        known = self._module.globals.get(name)
        return known or ir.Function(self._module, ir.FunctionType(result, kinds), name)

    def room(self, size: Any) -> Any:
        """The address of so many bytes, in whole lines, for as long as the kernel runs."""
        lines = self.ops.udiv(size, self.count(LINE_BYTES))
        room = self.ops.alloca(ir.ArrayType(self._byte, LINE_BYTES), size=lines)
        room.align = LINE_BYTES
        return self.ops.inttoptr(self.ops.ptrtoint(room, self.index), self._pointer)

    def zeros(self) -> Any:
        """The address of a line of zeros."""
        kind = ir.ArrayType(self._byte, LINE_BYTES)
        line = ir.GlobalVariable(self._module, kind, "zeros")
        line.initializer, line.global_constant = ir.Constant(kind, None), True
        return line

    def finished(self) -> tuple[bytes, int]:
        """The kernel's machine code, and how many addresses and counts it takes."""
        self.ops.ret_void()
        return code_of(str(self._module)), len(self.arguments)


def gelu_polynomial(limit: float, degree: int) -> list[float]:
    """Coefficients of (Φ(x) − 1/2) / x in u = 2x²/limit² − 1, the constant one first.

    Φ is the normal distribution function; a Chebyshev interpolation for x up to ±limit.
    """
    from numpy.polynomial import chebyshev

    def slope(u: Any) -> Any:
        x = limit * np.sqrt((u + 1) / 2)
        return np.array([math.erf(value / math.sqrt(2)) / (2 * value) for value in x])

    return [float(c) for c in chebyshev.cheb2poly(chebyshev.chebinterpolate(slope, degree))]
