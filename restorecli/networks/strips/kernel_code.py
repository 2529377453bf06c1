"""Kernels for the steps on pixels, written for LLVM, which makes machine code for this processor.

That is done when a kernel is first asked for, and takes no compiler.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import cache, wraps
from itertools import product
from threading import RLock
from typing import Any, ParamSpec

import llvmlite.binding as llvm
import numpy as np
import torch
from llvmlite import ir
from numpy.polynomial import chebyshev

from restorecli.networks.blocks import NORM_EPS
from restorecli.networks.strips.kernels import LANES, LINE_BYTES, line_of

COLUMNS = 32  # of a row that are worked on together: what they read stays in the first cache
# GELU beyond ±limit, and the degree in x² of the polynomial below it: no error that rounding to
# the kind of features leaves to be seen.
GELU = {torch.float32: (5.3, 14), torch.bfloat16: (4.6, 10)}
GROUP = 32  # pixels whose squares are added up before they join the rest
HIGH_HALF = 0xFFFF0000
Values = Sequence[Any]  # of LLVM
P = ParamSpec("P")
Kernel = Callable[..., None]  # of addresses and counts, all of them integers

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
_ENGINES: list[Any] = []  # which own the code of the kernels
_LLVM = RLock()


def made_once(make: Callable[P, Kernel]) -> Callable[P, Kernel]:
    """``make``, which threads wait for one another to call, and which is called once for each."""
    known = cache(make)

    @wraps(make)
    def kernel(*form: P.args, **named: P.kwargs) -> Kernel:
        with _LLVM:
            return known(*form, **named)  # type: ignore[arg-type]  # all forms can be looked up

    return kernel


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

    def read(self, address: Any, dtype: torch.dtype) -> Any:
        """A vector of values in their order, as float32."""
        if dtype == torch.bfloat16:
            return self.ops.fpext(self._load(address, self._halves, 2), self._floats)
        return self._load(address, self._floats, 4)

    def write(self, address: Any, values: Any, dtype: torch.dtype) -> None:
        """A vector of float32 values in their order, rounded to ``dtype``."""
        if dtype == torch.bfloat16:
            values = self.ops.fptrunc(values, self._halves)
        self.ops.store(values, address).align = dtype.itemsize

    def read_line(self, address: Any, dtype: torch.dtype) -> Values:
        """A line: one vector of float32, or two of bfloat16, from the low halves of words first."""
        if dtype == torch.float32:
            return [self.read(address, dtype)]
        words = self._load(address, self._words, 2)
        halves = self.ops.shl(words, self.words(16)), self.ops.and_(words, self.words(HIGH_HALF))
        return [self.ops.bitcast(half, self._floats) for half in halves]

    def write_line(self, address: Any, vectors: Values, dtype: torch.dtype) -> None:
        """What ``read_line`` reads."""
        if dtype == torch.float32:
            self.write(address, vectors[0], dtype)
            return
        low, high = (
            self.ops.zext(
                self.ops.bitcast(self.ops.fptrunc(vector, self._halves), self._shorts), self._words
            )
            for vector in vectors
        )
        words = self.ops.or_(low, self.ops.shl(high, self.words(16)))
        self.ops.store(words, address).align = dtype.itemsize

    def _load(self, address: Any, kind: Any, align: int) -> Any:
        loaded = self.ops.load(address, typ=kind)
        loaded.align = align
        return loaded

    def multiply_add(self, first: Any, second: Any, added: Any) -> Any:
        """The product plus ``added``, rounded once."""
        return self._call("llvm.fma.v16f32", self._floats, first, second, added)

    def gelu(self, x: Any, dtype: torch.dtype) -> Any:
        """x·Φ(x), where Φ − 1/2 is x times a polynomial in x², up to a limit."""
        limit, degree = GELU[dtype]
        near = self._call("llvm.maxnum.v16f32", self._floats, x, self.constant(-limit))
        near = self._call("llvm.minnum.v16f32", self._floats, near, self.constant(limit))
        square = self.ops.fmul(near, near)
        unit = self.multiply_add(square, self.constant(2 / limit**2), self.constant(-1))
        terms = [self.constant(term) for term in gelu_polynomial(limit, degree)]
        # Two chains of half the length do not wait for one another.
        even, odd = (self._polynomial(terms[i::2], self.ops.fmul(unit, unit)) for i in range(2))
        slope = self.multiply_add(odd, unit, even)
        return self.ops.fmul(x, self.multiply_add(near, slope, self.constant(0.5)))

    def _polynomial(self, terms: Values, x: Any) -> Any:
        *others, value = terms
        for term in reversed(others):
            value = self.multiply_add(value, x, term)
        return value

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

    def zeros(self) -> Any:
        """The address of a line of zeros."""
        kind = ir.ArrayType(self._byte, LINE_BYTES)
        line = ir.GlobalVariable(self._module, kind, "zeros")
        line.initializer, line.global_constant = ir.Constant(kind, None), True
        return line

    def finished(self) -> Kernel:
        """The kernel as a function of addresses and counts, all of them integers."""
        self.ops.ret_void()
        # Vectors as wide as they are written, and not half as wide, as LLVM would rather have them.
        features = f"{llvm.get_host_cpu_features().flatten()},-prefer-256-bit"
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=features, opt=1
        )
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(self._module)), machine)
        engine.finalize_object()
        kinds: list[Any] = [ctypes.c_void_p] * self._count(ir.PointerType)
        kinds += [ctypes.c_int64] * self._count(ir.IntType)
        kernel = ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address("kernel"))
        _ENGINES.append(engine)  # which owns the code
        return kernel

    def _count(self, kind: type) -> int:
        return sum(isinstance(argument.type, kind) for argument in self.arguments)


def gelu_polynomial(limit: float, degree: int) -> list[float]:
    """Coefficients of (Φ(x) − 1/2) / x in u = 2x²/limit² − 1, the constant one first.

    Φ is the normal distribution function; a Chebyshev interpolation for x up to ±limit.
    """

    def slope(u: Any) -> Any:
        x = limit * np.sqrt((u + 1) / 2)
        return np.array([math.erf(value / math.sqrt(2)) / (2 * value) for value in x])

    return [float(c) for c in chebyshev.cheb2poly(chebyshev.chebinterpolate(slope, degree))]


@made_once
def layer_norm(channels: int, given: torch.dtype, made: torch.dtype, with_bias: bool) -> Kernel:
    """Pointers to pixels, results, weights and biases, and the number of pixels."""
    to = Writer(pointers=4, counts=1)
    rows, out, weight, bias, pixels = to.arguments
    ops = to.ops
    places = range(0, channels, LANES)

    def pixel(index: Any, _: Values) -> Values:
        start = to.at(rows, ops.mul(index, to.count(channels * given.itemsize)))
        target = to.at(out, ops.mul(index, to.count(channels * made.itemsize)))
        values = [to.read(to.at(start, to.count(k * given.itemsize)), given) for k in places]
        mean = to.mean(values)
        apart = [ops.fsub(value, mean) for value in values]
        variance = to.mean([ops.fmul(value, value) for value in apart])
        scale = to.inverse_root(ops.fadd(variance, to.constant(NORM_EPS)))
        for k, value in zip(places, apart if with_bias else values, strict=True):
            at = to.count(4 * k)
            y = ops.fmul(ops.fmul(value, scale), to.read(to.at(weight, at), torch.float32))
            if with_bias:
                y = ops.fadd(y, to.read(to.at(bias, at), torch.float32))
            to.write(to.at(target, to.count(k * made.itemsize)), y, made)
        return []

    to.loop(to.count(0), pixels, to.count(1), pixel)
    return to.finished()


class Depthwise(Writer):
    """3×3 convolutions of each channel alone, of one part or of two: GELU(first) · second.

    Pointers to rows, results and weights; numbers of rows and columns of the results, and of
    channels. Some columns of a row are done line by line of channels. A column of three pixels is
    read once: it has a share in three results, of which two are carried on.
    """

    def __init__(self, parts: int, dtype: torch.dtype) -> None:
        super().__init__(pointers=3, counts=3)
        self.parts, self.dtype, self.vectors = parts, dtype, line_of(dtype) // LANES
        self.rows, self.out, self.weights, height, self.width, channels = self.arguments
        self.no, self.one, self.edge = self.count(0), self.count(1), self.zeros()
        self.out_pixel = self.ops.mul(channels, self.count(dtype.itemsize))  # in bytes, as all are
        self.pixel = self.ops.mul(self.out_pixel, self.count(parts))
        self.row = self.ops.mul(self.pixel, self.width)
        self.loop(self.no, height, self.one, self.whole_row)

    def whole_row(self, y: Any, _: Values) -> Values:
        """A row of results."""
        some = self.count(COLUMNS)
        self.loop(self.no, self.width, some, lambda first, _: self.some_columns(y, first))
        return []

    def some_columns(self, y: Any, first: Any) -> Values:
        """Results from column ``first``, at most ``COLUMNS``."""
        ops = self.ops
        end = ops.add(first, self.count(COLUMNS))
        stop = ops.select(ops.icmp_signed("<", end, self.width), end, self.width)
        line = self.count(LINE_BYTES)
        self.loop(self.no, self.out_pixel, line, lambda at, _: self.one_line(y, (first, stop), at))
        return []

    def one_line(self, y: Any, columns: tuple[Any, Any], at: Any) -> Values:
        """Results of some columns in the line of channels that begins ``at`` a byte of a pixel."""
        ops, (first, stop) = self.ops, columns
        start = self.at(self.rows, ops.add(ops.mul(y, self.row), at))
        row = ops.mul(self.out_pixel, self.width)
        target = self.at(self.out, ops.add(ops.mul(y, row), at))
        per_byte = self.count(4 // self.dtype.itemsize * 9 * self.parts)
        own = self.at(self.weights, ops.mul(at, per_byte))
        places = range(self.parts * 9 * self.vectors)
        taps = [self.read(self.at(own, self.count(4 * LANES * i)), torch.float32) for i in places]

        def step(x: Any, carried: Values) -> Values:
            half, values = len(carried) // 2, self.column(start, x)
            self.finish(target, ops.sub(x, self.one), self.added(taps, values, 2, carried[:half]))
            middle = self.added(taps, values, 1, carried[half:])
            return [*middle, *self.added(taps, values, 0)]

        left = self.column(start, ops.sub(first, self.one), ops.icmp_signed("==", first, self.no))
        values = self.column(start, first)
        middle = self.added(taps, values, 1, self.added(taps, left, 0))
        carried = [*middle, *self.added(taps, values, 0)]
        carried = list(self.loop(ops.add(first, self.one), stop, self.one, step, carried))
        right = self.column(start, stop, ops.icmp_signed("==", stop, self.width))
        last = self.added(taps, right, 2, carried[: len(carried) // 2])
        self.finish(target, ops.sub(stop, self.one), last)
        return []

    def column(self, start: Any, x: Any, beyond: Any = None) -> list[list[Values]]:
        """Three lines of column ``x`` for each part; zeros where that is ``beyond`` the plane."""
        ops, at = self.ops, self.at(start, self.ops.mul(x, self.pixel))
        found = []
        for part in range(self.parts):
            own = self.at(at, ops.mul(self.out_pixel, self.count(part)))
            lines = [self.at(own, ops.mul(self.row, self.count(dy))) for dy in range(3)]
            if beyond is not None:
                lines = [ops.select(beyond, self.edge, line) for line in lines]
            found.append([self.read_line(line, self.dtype) for line in lines])
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

    def finish(self, target: Any, x: Any, sums: Values) -> None:
        """Write the results of column ``x``."""
        results = sums[: self.vectors]
        if self.parts == 2:
            gates = [self.gelu(value, self.dtype) for value in results]
            pairs = zip(gates, sums[self.vectors :], strict=True)
            results = [self.ops.fmul(gate, value) for gate, value in pairs]
        self.write_line(self.at(target, self.ops.mul(x, self.out_pixel)), results, self.dtype)


@made_once
def depthwise(parts: int, dtype: torch.dtype) -> Kernel:
    """The kernel of `Depthwise`."""
    return Depthwise(parts, dtype).finished()


@made_once
def weighted_sum(given: torch.dtype, made: torch.dtype) -> Kernel:
    """Pointers to pairs, results and scales; the number of pixels and of channels of a result."""
    to = Writer(pointers=3, counts=2)
    pairs, out, scales, pixels, channels = to.arguments
    ops = to.ops

    def vector(place: Any, channel: Any) -> None:
        products = []
        for other in (to.count(0), channels):
            own = ops.add(channel, other)
            at = ops.mul(ops.add(ops.mul(place, to.count(2)), own), to.count(given.itemsize))
            scale = to.read(to.at(scales, ops.mul(own, to.count(4))), torch.float32)
            products.append((to.read(to.at(pairs, at), given), scale))
        (first, its_scale), (second, other_scale) = products
        y = to.multiply_add(second, other_scale, ops.fmul(first, its_scale))
        at = ops.mul(ops.add(place, channel), to.count(made.itemsize))
        to.write(to.at(out, at), y, made)

    to.each_vector(pixels, channels, vector)
    return to.finished()


@made_once
def gelu_times(dtype: torch.dtype) -> Kernel:
    """Pointers to what is changed, biases and factors; the number of pixels and of channels."""
    to = Writer(pointers=3, counts=2)
    rows, biases, others, pixels, channels = to.arguments
    ops = to.ops

    def vector(place: Any, channel: Any) -> None:
        byte = ops.mul(ops.add(place, channel), to.count(dtype.itemsize))
        bias = to.read(to.at(biases, ops.mul(channel, to.count(4))), torch.float32)
        gate = to.gelu(ops.fadd(to.read(to.at(rows, byte), dtype), bias), dtype)
        y = ops.fmul(gate, to.read(to.at(others, byte), dtype))
        to.write(to.at(rows, byte), y, dtype)

    to.each_vector(pixels, channels, vector)
    return to.finished()


@made_once
def sums_of_squares(dtype: torch.dtype) -> Kernel:
    """Pointers to pixels and to sums that are 0; the number of pixels and of channels.

    A few pixels are added up first, then these sums: the fewer terms, the less rounding.
    """
    to = Writer(pointers=2, counts=2)
    rows, sums, pixels, channels = to.arguments
    ops = to.ops

    def group(first: Any, _: Values) -> Values:
        end = ops.add(first, to.count(GROUP))
        stop = ops.select(ops.icmp_signed("<", end, pixels), end, pixels)

        def vector(channel: Any, _: Values) -> Values:
            def pixel(index: Any, carried: Values) -> Values:
                place = ops.add(ops.mul(index, channels), channel)
                value = to.read(to.at(rows, ops.mul(place, to.count(dtype.itemsize))), dtype)
                return [to.multiply_add(value, value, carried[0])]

            (some,) = to.loop(first, stop, to.count(1), pixel, [to.constant(0)])
            at = to.at(sums, ops.mul(channel, to.count(4)))
            to.write(at, ops.fadd(to.read(at, torch.float32), some), torch.float32)
            return []

        to.loop(to.count(0), channels, to.count(LANES), vector)
        return []

    to.loop(to.count(0), pixels, to.count(GROUP), group)
    return to.finished()


def make_all(dtype: torch.dtype) -> None:
    """Make the kernels that take longest, for features of ``dtype``."""
    for kind, parts in product(dict.fromkeys([dtype, torch.float32]), (2, 1)):
        depthwise(parts, kind)
