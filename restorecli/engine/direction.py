"""Which way up a network is given a picture: rain falls sideways where a phone was held flat.

A network for rain has seen more of it fall than fly, and removes less of what comes from the side.
Where its entry says ``turns``, a few crops are restored upright and turned by 90°, and the picture
goes through the network the way up in which more of them was removed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from restorecli.images.photo import Pixels

CROP_PX = 160
SEVERAL_PX = 4 * CROP_PX  # pictures of this shorter side are tried in five places, others in one
CLEARLY = 1.05  # turned crops have to change that much more


def is_better_turned(pixels: Pixels, change: Callable[[Pixels], float]) -> bool:
    """Whether more is removed from crops of a picture when they are turned by 90°.

    Args:
        pixels: RGB (H, W, 3) or gray (H, W).
        change: Of a crop: how much the network changes it, not negative.
    """
    parts = crops(pixels)
    upright = sum(change(part) for part in parts)
    return sum(change(np.rot90(part)) for part in parts) > CLEARLY * upright


def crops(pixels: Pixels) -> list[Pixels]:
    """The middle of a picture, and of a large one four places around it, as views."""
    height, width = pixels.shape[:2]
    places = [(0.5, 0.5)]
    if min(height, width) >= SEVERAL_PX:
        places += [(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)]
    found = []
    for down, right in places:
        top, left = (
            max(0, min(int(share * side) - CROP_PX // 2, side - CROP_PX))
            for share, side in ((down, height), (right, width))
        )
        found.append(pixels[top : top + CROP_PX, left : left + CROP_PX])
    return found
