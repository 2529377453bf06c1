"""A photograph in memory: upright pixels, and what its file carried beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Pixels = NDArray[Any]  # uint8, uint16 or float32
WHITE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65_535, np.dtype(np.float32): 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a file holds beside pixels, as bytes where it is kept as bytes."""

    exif: bytes | None = None  # orientation reset to 1: the pixels are upright
    xmp: bytes | None = None  # likewise
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    jpeg_tables: Mapping[int, list[int]] = field(default_factory=dict)  # quantisation, or empty
    jpeg_subsampling: int = -1  # Pillow's code, -1 unknown
    jpeg_segments: bytes = b""  # IPTC and long XMP, as they stand in the file
    jpeg_comment: bytes | None = None
    avif_subsampling: str = "4:4:4"
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()  # text, and how colours are meant
    lossless: bool = False  # how a WebP was coded


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """Upright pixels and the rest.

    ``pixels`` are uint8 (0…255), uint16 (0…65535) or float32 (0…1): RGB (H, W, 3) or gray (H, W).
    ``alpha`` has the same type, (H, W), or is ``None``; colours are not multiplied by it.
    ``notes`` tell what could not be kept.
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

    @property
    def bits(self) -> int:
        """Of one channel: 8, 16, or 32 for float32."""
        return 8 * self.pixels.dtype.itemsize

    def in_depth(self, dtype: DTypeLike) -> Photo:
        """The same photograph with values of another type; 0 and white stay 0 and white."""
        alpha = None if self.alpha is None else _in_depth(self.alpha, np.dtype(dtype))
        return replace(self, pixels=_in_depth(self.pixels, np.dtype(dtype)), alpha=alpha)

    def filled(self) -> Pixels:
        """The pixels with the nearest visible colour wherever the picture is wholly transparent.

        What is hidden there (often black, often the picture's own background) would otherwise be
        mixed into the visible edge by a network that looks at neighbours.
        """
        hidden = self.hidden
        if hidden is None:
            return self.pixels
        from scipy import ndimage

        nearest = ndimage.distance_transform_edt(
            hidden, return_distances=False, return_indices=True
        )  # (2, H, W)
        return self.pixels[tuple(nearest)]

    def with_pixels(self, pixels: Pixels) -> Photo:
        """The same photograph with other pixels of the same shape; all else is carried.

        Where it is wholly transparent, the colour stays what it was.
        """
        if pixels.shape != self.pixels.shape:
            raise ValueError(f"expected pixels of shape {self.pixels.shape}, got {pixels.shape}")
        photo = self.in_depth(pixels.dtype)
        if (hidden := self.hidden) is not None:
            pixels = pixels.copy()
            pixels[hidden] = photo.pixels[hidden]
        return replace(photo, pixels=pixels)

    @property
    def hidden(self) -> NDArray[np.bool_] | None:
        """Where nothing is seen, (H, W); ``None`` if that is nowhere or everywhere."""
        if self.alpha is None:
            return None
        hidden = self.alpha == 0
        return hidden if hidden.any() and not hidden.all() else None


def _in_depth(values: Pixels, dtype: np.dtype[Any]) -> Pixels:
    if values.dtype == dtype:
        return values
    scaled = values.astype(np.float64) * (WHITE[dtype] / WHITE[values.dtype])
    return (scaled if dtype.kind == "f" else np.rint(scaled)).astype(dtype)
