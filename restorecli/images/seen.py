"""A picture as people see it: upright, over white, and in 8 bits where a screen shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restorecli.images.reading import read_photo


def read_pixels(path: Path) -> NDArray[Any]:
    """The picture as it is seen: upright, and transparent parts over white.

    Returns:
        uint8 or uint16, (H, W, 3) RGB or (H, W) gray.

    Raises:
        InputError: the file cannot be read as a picture.
    """
    photo = read_photo(path)
    if photo.pixels.dtype == np.float32:
        photo = photo.in_depth(np.uint16)
    pixels, alpha = photo.pixels, photo.alpha
    if alpha is None:
        return pixels
    white = np.iinfo(pixels.dtype).max
    opacity = alpha.astype(np.float64) / np.iinfo(alpha.dtype).max
    if pixels.ndim == 3:
        opacity = opacity[..., None]
    return np.rint(pixels * opacity + white * (1 - opacity)).astype(pixels.dtype)


def in_8_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 or uint16, rounded to the nearest of 256 values → uint8 of the same shape."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint(pixels / 257).astype(np.uint8)
