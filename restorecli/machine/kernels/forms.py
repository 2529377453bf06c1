"""All kernels, by name, and those that a network needs, made before it asks for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

from restorecli.machine.kernels import Kind
from restorecli.machine.kernels.code import Kernel
from restorecli.machine.kernels.pixels import (
    calls,
    clearing,
    depthwise,
    gelu_times,
    layer_norm,
    maxima,
    rounding,
    weighted_sum,
)
from restorecli.machine.kernels.products import (
    description,
    float_packing,
    float_product,
    packing,
    product,
    vectors_of,
)
from restorecli.machine.kernels.sums import float_gram, gram, sums_of_squares
from restorecli.machine.kernels.tiles import shapes

USUAL_CHANNELS = 32, 64, 128, 256  # of the networks in the wheel, level by level
USUAL_EPSILON = 1e-5  # of their norms


def usual_forms(kind: Kind) -> Iterator[Callable[[], Kernel]]:
    """What makes the kernels that networks in the wheel need for features of ``kind``."""
    tiles = kind is Kind.BFLOAT
    yield calls
    if tiles:
        # Their first level is float32.
        level = partial(layer_norm, USUAL_CHANNELS[0], Kind.FLOAT, Kind.FLOAT, USUAL_EPSILON)
        yield from (partial(float_packing, 4), partial(float_packing, 2))
        yield from (partial(level, with_bias=True), partial(depthwise, 2, Kind.FLOAT))
        yield from (partial(float_product, 4, add=False), partial(float_product, 2, add=True))
    channels = USUAL_CHANNELS[1:] if tiles else USUAL_CHANNELS
    for count in channels:
        yield partial(layer_norm, count, kind, kind, USUAL_EPSILON, with_bias=True)
    yield from (clearing, partial(depthwise, 1, kind), partial(depthwise, 2, kind))
    if tiles:
        yield partial(packing, 1)
        yield from (partial(product, 1, kind, add=add) for add in (False, True))
    else:
        for vectors in (4, 2):
            yield partial(float_packing, vectors)
            yield from (partial(float_product, vectors, add=add) for add in (False, True))
    yield from (gram if tiles else float_gram, partial(weighted_sum, kind, kind))
    yield partial(gelu_times, kind)


def make_usual(kind: Kind) -> None:
    """Make those kernels, one after the other, for as long as the program has not ended."""
    for make in usual_forms(kind):
        if threading.main_thread().is_alive():
            make()


__all__ = [
    "calls",
    "clearing",
    "depthwise",
    "description",
    "float_gram",
    "float_packing",
    "float_product",
    "gelu_times",
    "gram",
    "layer_norm",
    "make_usual",
    "maxima",
    "packing",
    "product",
    "rounding",
    "shapes",
    "sums_of_squares",
    "vectors_of",
    "weighted_sum",
]
