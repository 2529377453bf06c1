"""How much memory the evaluation by strips takes, from the shapes of its buffers."""

from __future__ import annotations

from restorecli.networks.blocks import MULTIPLE_PX
from restorecli.networks.hint import HINT
from restorecli.networks.restormer import Restormer

IMAGE_BYTES = 4  # of one value of the degraded or restored image, float32
SUM_BYTES = 8  # of one value of a sum over pixels, float64
STRIP_SHARE = 4  # measured: the heap grows by so many times a strip's values, see below


def resident_bytes(
    network: Restormer | HINT,
    height: int,
    width: int,
    *,
    strip_rows: int,
    bytes_per_value: int,
    batch: int = 1,
) -> int:
    """Peak bytes that ``restore_by_strips`` needs above the parameters, its ``x`` included.

    Where the decoder reaches the first level, its buffer (2D values a pixel) is filled from the
    level below (2D values for every four pixels). In that level's blocks the buffer is joined by
    a strip's hidden features: three times ``hidden`` values a pixel. The heap takes about four
    times those, because strips of every level leave holes of other sizes in it; that factor was
    measured with glibc and one thread. With two threads (benchmarks/results/0.1.0) the formula is
    14 % above the measured peak for strips of 64 rows, and up to 35 % below it for 16 rows. Other
    allocators and devices were not measured.

    Args:
        network: Restormer, GLMHA-Restormer or HINT.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        strip_rows: As for ``restore_by_strips``.
        bytes_per_value: Of the features: 4 for float32, 2 for half precision.
        batch: Images in ``x``; features exist for one at a time.
    """
    dim = network.output.in_channels // 2
    last = [*network.decoder_level1, *network.refinement]
    hidden = max((block.ffn.project_out.in_channels for block in last), default=0)
    rows, columns = (length + -length % MULTIPLE_PX for length in (height, width))
    pixels = rows * columns

    planes = network.patch_embed.proj.in_channels + network.output.out_channels
    images = batch * planes * height * width
    if pixels != height * width:
        images += batch * network.patch_embed.proj.in_channels * pixels  # the padded copy

    centre = min(strip_rows, rows)
    haloed = min(strip_rows + 2, rows)
    filling = 2 * dim * pixels // 4 + 4 * dim * centre * columns
    refining = ((2 * dim + hidden) * haloed + 2 * hidden * centre) * columns
    features = 2 * dim * pixels + max(filling, STRIP_SHARE * refining)
    matrices = 2 * (8 * dim) ** 2  # the sums of the widest level: q·q and q·k
    return IMAGE_BYTES * images + bytes_per_value * features + SUM_BYTES * matrices
