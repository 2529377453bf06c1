"""The same networks, evaluated strip by strip: exact whole-image results in bounded memory.

Every operation that touches pixels is pointwise, a 3×3 convolution, a pixel shuffle, or a sum or a
maximum over all pixels. So a band of rows and one row of neighbours are enough at any moment, and
the result is that of the plain forward pass; nothing is approximated and there are no seams. The
parameters are those of the network as it is: nothing is converted or kept between calls.
"""

from __future__ import annotations

from restorecli.networks.strips.attention import KEEP_BYTES
from restorecli.networks.strips.memory import Room, resident_bytes
from restorecli.networks.strips.picture import picture_gain
from restorecli.networks.strips.unet import restore_by_strips, restored_rows

__all__ = [
    "KEEP_BYTES",
    "Room",
    "picture_gain",
    "resident_bytes",
    "restore_by_strips",
    "restored_rows",
]
