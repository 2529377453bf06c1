"""How much memory the evaluation by strips takes, from the shapes of its buffers."""

from __future__ import annotations

from typing import NamedTuple

import torch

from restorecli.networks.hint import HINT, EncoderBlock
from restorecli.networks.restormer import Restormer
from restorecli.networks.strips import kernels
from restorecli.networks.strips.attention import KEEP_BYTES, KEPT
from restorecli.networks.strips.fused import ATTENTIONS as FUSED
from restorecli.networks.strips.passages import kept_rows
from restorecli.networks.strips.rows import VECTOR
from restorecli.networks.strips.workers import worker_count

SUM_BYTES = 8  # of one value of a sum over pixels, float64
# What the convolution library compiles and keeps for a network; more where it also reorders.
LIBRARY_BYTES, LIBRARY_BYTES_HALF = 13_000_000, 45_000_000
KERNEL_BYTES = 40_000_000  # what LLVM makes and keeps for kernels
SMALL_MATRICES = 8  # C×C sums and attention maps of the widest level alive at once
LEVELS = 5  # of features, each half as many as of the one above: two before the first halving
ATTENDING = 8  # features of a strip alive at once in attention, as a multiple of those of the level
CONVOLVING = 3  # the same where steps of blocks are fused: convolutions between levels are left
TIDIED_BYTES = 2**26  # of the widest plane, from which on the heap is freed of holes meanwhile
# The heap that strips, and planes and what is kept, take, as multiples of what is alive at once:
# blocks of other sizes leave holes in it, and those of several threads leave more. Half precision
# has its statistics in float32 beside it.
STRIP_SHARE, STRIP_SHARE_HALF, UNTIDIED, SHARED_STRIPS = 1.5, 3.5, 1.0, 0.5
PLANE_SHARE, PLANE_SHARE_HALF, SHARED_PLANES = 1.0, 1.1, 0.15


class Room(NamedTuple):
    """What an evaluation may take beside its strips, to be faster."""

    keep_bytes: int = KEEP_BYTES  # what two passes need is kept from the first up to this size
    workers: int | None = None  # threads that share the rows, each with a strip; None: all of torch


ROOMY = Room()


def resident_bytes(
    network: Restormer | HINT,
    height: int,
    width: int,
    *,
    strip_rows: int,
    bytes_per_value: int,
    keep_bytes: int = KEEP_BYTES,
    workers: int = 1,
) -> int:
    """Peak bytes that ``restored_rows`` needs above the parameters, the image and its result.

    The decoder's first level, 2D values a pixel, is there all the time, and beside it the level
    below, 2D values for every four pixels. In their blocks a strip's features join them: in
    attention those of its passes, beside what it keeps of the plane; then the hidden ones, gates
    and values, each before and after its 3×3 convolution. The maps of an affine head, before and
    after the guided filter, take the place of the features. The shares and constants above were
    measured with glibc on a processor, one and two threads; ``python -m benchmarks.memory``
    compares.

    Args:
        network: Restormer, GLMHA-Restormer or HINT.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        strip_rows: As for ``restored_rows``.
        bytes_per_value: Of the features: 4 for float32, 2 for half precision.
        keep_bytes: As in ``Room``.
        workers: As in ``Room``.
    """
    dim = network.output.in_channels // 2
    last = [*network.decoder_level1, *network.refinement]
    hidden = max((block.ffn.project_out.in_channels for block in last), default=0)
    ends = network.ends
    rows, columns = (
        (length + -length % ends.multiple_px) // ends.packing for length in (height, width)
    )
    workers = worker_count(workers, rows * columns)
    centre = min(workers * strip_rows, rows)
    hidden += -hidden % VECTOR

    level1 = 2 * dim * rows * columns
    refining = (2 * dim * centre + 2 * hidden * 2 * (centre + workers)) * columns
    matrices = SMALL_MATRICES * (8 * dim) ** 2
    share = max((KEPT.get(type(block.attn), 0) for block in last), default=0)
    of_levels = [share * bytes_per_value * level1 // 2**level for level in range(LEVELS)]  # bytes
    kept = max((size for size in of_levels if size <= keep_bytes), default=0)
    attends = {type(block.attn) for block in last if not isinstance(block, EncoderBlock)}
    half, shared = bytes_per_value < 4, workers > 1
    kind = torch.bfloat16 if half else torch.float32
    device = network.output.weight.device
    fits = columns >= kernels.LEAST_PIXELS and kernels.multiplies(device, kind, 2 * dim)
    attending = ATTENDING * 2 * dim * centre * columns
    if fits and attends <= FUSED.keys():
        # What convolutions between levels have left in the heap is there, too.
        attending = CONVOLVING * 2 * dim * centre * columns
        kept_columns = workers * kept_rows(columns) * columns
        refining = attending + (2 * dim + 3 * hidden) * kept_columns
    planes = bytes_per_value * (level1 + level1 // 4)
    of_planes = (PLANE_SHARE_HALF if half else PLANE_SHARE) + SHARED_PLANES * shared
    of_strips = STRIP_SHARE_HALF if half else STRIP_SHARE + SHARED_STRIPS * shared
    if not half and bytes_per_value * level1 < TIDIED_BYTES:
        of_strips += UNTIDIED
    strip = bytes_per_value * of_strips
    need = max(planes + kept + strip * attending, planes + strip * refining)
    need += (of_planes - 1) * (planes + kept)
    if ends.affine:
        # Maps, before and after the guided filter, the guide, and what it is multiplied by, twice.
        values = 2 * ends.last_channels + 3 * ends.inp_channels + 2
        need = max(need, max(4, bytes_per_value) * values * rows * columns)
    library = LIBRARY_BYTES_HALF if half else workers * LIBRARY_BYTES
    if kernels.usable(device, kind):
        library += KERNEL_BYTES
    return int(need) + SUM_BYTES * matrices + library
