"""A photograph in memory: upright pixels, and what its file carried beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

Pixels = NDArray[Any]  # uint8, or uint16 for scoring


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a file holds beside pixels, as bytes where it is kept as bytes."""

    exif: bytes | None = None  # orientation reset to 1: the pixels are upright
    xmp: bytes | None = None  # likewise
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    jpeg_tables: Mapping[int, list[int]] = field(default_factory=dict)  # quantisation, or empty
    jpeg_subsampling: int = -1  # Pillow's code, -1 unknown
    lossless: bool = False  # how a WebP was coded


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """Upright pixels and the rest.

    ``pixels`` are uint8, 0…255 (uint16, 0…65535): RGB (H, W, 3) or gray (H, W). ``alpha`` has the
    same type, (H, W), or is ``None``; colours are not multiplied by it. ``notes`` tell what
    could not be kept.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    carried: Carried = field(default_factory=Carried)
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def is_gray(self) -> bool:
        """One channel of light, whatever the alpha."""
        return self.pixels.ndim == 2

    def with_pixels(self, pixels: Pixels) -> Photo:
        """The same photograph with other pixels of the same shape; all else is carried."""
        if pixels.shape != self.pixels.shape:
            raise ValueError(f"expected pixels of shape {self.pixels.shape}, got {pixels.shape}")
        return replace(self, pixels=pixels)
