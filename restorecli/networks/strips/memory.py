"""How much memory the evaluation by strips takes, from the shapes of its buffers."""

from __future__ import annotations

from restorecli.networks.blocks import MULTIPLE_PX
from restorecli.networks.hint import HINT
from restorecli.networks.restormer import Restormer

SUM_BYTES = 8  # of one value of a sum over pixels, float64
LIBRARY_BYTES = 13_000_000  # what the convolution library compiles and keeps for a network
SMALL_MATRICES = 8  # C×C sums and attention maps of the widest level alive at once
# The heap that strips take, as a multiple of what is alive at once: blocks of other sizes leave
# holes in it. Half precision has its statistics in float32 beside it.
STRIP_SHARE, STRIP_SHARE_HALF = 1.8, 3.0


def resident_bytes(
    network: Restormer | HINT,
    height: int,
    width: int,
    *,
    strip_rows: int,
    bytes_per_value: int,
) -> int:
    """Peak bytes that ``restored_rows`` needs above the parameters, the image and its result.

    The peak is where the decoder's first level, 2D values a pixel, is filled from the level below
    (2D values for every four pixels), or in its blocks, where a strip's hidden features join it:
    three times ``hidden`` values a pixel. The shares and constants above were measured with glibc
    on a processor, one and two threads; ``python -m benchmarks.memory`` compares.

    Args:
        network: Restormer, GLMHA-Restormer or HINT.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        strip_rows: As for ``restored_rows``.
        bytes_per_value: Of the features: 4 for float32, 2 for half precision.
    """
    dim = network.output.in_channels // 2
    last = [*network.decoder_level1, *network.refinement]
    hidden = max((block.ffn.project_out.in_channels for block in last), default=0)
    rows, columns = (length + -length % MULTIPLE_PX for length in (height, width))
    centre, haloed = min(strip_rows, rows), min(strip_rows + 2, rows)

    level1 = 2 * dim * rows * columns
    filling = level1 // 4 + 4 * dim * centre * columns
    refining = ((2 * dim + hidden) * haloed + 2 * hidden * centre) * columns
    share = STRIP_SHARE_HALF if bytes_per_value < 4 else STRIP_SHARE
    matrices = SMALL_MATRICES * (8 * dim) ** 2
    return (
        bytes_per_value * (level1 + max(filling, int(share * refining)))
        + SUM_BYTES * matrices
        + LIBRARY_BYTES
    )
