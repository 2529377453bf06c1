"""The mean over the ways to flip and turn a picture: eight, or two where up and down differ.

Rain falls from above, and networks that were taught so remove less of it sideways: they are given
the picture and its mirror image.

Each way up is restored as a picture of its own, and turned back. They are added as whole
numbers, so that neither their order nor the strips they come in change the sum: the mean of a
turned picture is the turned mean, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restorecli.images.photo import Pixels
from restorecli.images.tensors import as_gray

WAYS = range(8)
MIRRORED = (0, 4)
SUM_BYTES = 4  # of one value of the sum, uint32
SCALE = 2**26  # steps from 0 to 1: float32 has 2²⁴ from ½ to 1, and eight of them fit into 32 bits
BAND_ROWS = 64  # of the mean that are float at a time
Progress = Callable[[float], None]
Restore = Callable[[Pixels, Progress], Iterator[tuple[int, Tensor]]]


def way(planes: NDArray[Any], number: int) -> NDArray[Any]:
    """``planes`` (H, W, …) turned by ``number % 4`` right angles, from 4 on flipped: a view."""
    return np.rot90(planes[:, ::-1] if number >= 4 else planes, number % 4)


def mean_rows(
    restore: Restore, pixels: Pixels, on_progress: Progress, ways: Sequence[int] = WAYS
) -> Iterator[tuple[int, Tensor]]:
    """Rows of the mean of the results, from the top: the first one's number, and (C, r, W).

    C is 1 for a gray picture, else 3.

    Args:
        restore: Pixels → rows of their result, as `Engine` gives them: float (C, r, W), finite.
        pixels: RGB (H, W, 3) or gray (H, W).
        on_progress: Told the share that was just done.
        ways: Numbers of `way`.
    """
    gray = pixels.ndim == 2
    total = np.zeros((*pixels.shape[:2], 1 if gray else 3), np.uint32)
    for number in ways:
        turned = way(total, number)
        for start, rows in restore(
            way(pixels, number), lambda share: on_progress(share / len(ways))
        ):
            planes = as_gray(rows) if gray else rows.float()
            steps = planes.clamp(0, 1).double().mul(SCALE).round()  # (C, r, w)
            band = steps.permute(1, 2, 0).cpu().numpy().astype(np.uint32)
            turned[start : start + len(band)] += band
    for start in range(0, len(total), BAND_ROWS):
        mean = total[start : start + BAND_ROWS].astype(np.float64) / (len(ways) * SCALE)
        yield start, torch.from_numpy(mean).permute(2, 0, 1).float()
