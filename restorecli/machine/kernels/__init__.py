"""Machine code for the steps of networks that take most time, made for this processor.

`forms` has all kernels, and needs ``llvmlite``; nothing here needs torch.
"""

from __future__ import annotations

from enum import Enum

LANES = 16  # float32 values of a vector
LINE_BYTES = 64  # of memory: channels that are worked on together
TILE = 16  # rows of a tile, and columns of one of float32
CALLED = 10  # words of a call in a list: the kernel's address, and what it is given


class Kind(Enum):
    """What features are, by the bytes of a value."""

    FLOAT = 4  # float32
    BFLOAT = 2  # bfloat16

    @property
    def size(self) -> int:
        """Bytes of a value."""
        return self.value

    @property
    def line(self) -> int:
        """Values of a line of memory."""
        return LINE_BYTES // self.value
