"""A part of a picture, and the window that is restored to show it. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from restorecli.errors import InputError

WINDOW_PIXELS = 2**20  # some seconds on two cores; smaller pictures are restored whole
CROP_PX = 512  # sides of a detail that nobody chose
GRID_PX = 32  # windows begin at its lines, as the squares do that networks pack and halve


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}+{self.left}+{self.top}"

    def of(self, planes: NDArray[Any]) -> NDArray[Any]:
        """That part of an array (H, W, …), as a view."""
        return planes[self.top : self.top + self.height, self.left : self.left + self.width]

    def within(self, other: Box) -> Box:
        """The same place, as counted from the corner of ``other``."""
        return replace(self, left=self.left - other.left, top=self.top - other.top)


def chosen(crop: Box | None, size: tuple[int, int], name: str) -> Box:
    """The detail that was asked for, or the middle; ``InputError`` where it is not inside."""
    height, width = size
    if crop is None:
        across, down = min(CROP_PX, width), min(CROP_PX, height)
        return Box((width - across) // 2, (height - down) // 2, across, down)
    if crop.left + crop.width > width or crop.top + crop.height > height:
        raise InputError(
            f"--crop {crop} is not inside of {name}, which has {width}×{height} pixels.",
            hint="Give --crop WIDTHxHEIGHT+LEFT+TOP within it.",
        )
    return crop


def window(box: Box, size: tuple[int, int]) -> Box:
    """What is restored to show ``box``: as much around it as `WINDOW_PIXELS` allow, on the grid."""
    height, width = size
    if height * width <= WINDOW_PIXELS:
        return Box(0, 0, width, height)
    side = int(WINDOW_PIXELS**0.5)
    across = max(box.width, min(width, max(side, WINDOW_PIXELS // min(height, side))))
    down = max(box.height, min(height, WINDOW_PIXELS // across))
    left, right = _around(box.left, box.width, across, width)
    top, bottom = _around(box.top, box.height, down, height)
    return Box(left, top, right - left, bottom - top)


def _around(start: int, length: int, wanted: int, whole: int) -> tuple[int, int]:
    """From where to where ``wanted`` pixels around a part go along one axis."""
    first = max(0, min(start - (wanted - length) // 2, whole - wanted)) // GRID_PX * GRID_PX
    return first, min(whole, max(first + wanted, start + length))
