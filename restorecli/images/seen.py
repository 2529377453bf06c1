"""Pictures as people see them: upright, eight bits a channel, transparent parts over white."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restorecli.images.photo import Photo
from restorecli.images.reading import decode_photo, read_file, reduced_jpeg
from restorecli.limits import DEFAULT_MAX_PIXELS


def read_pixels(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> NDArray[Any]:
    """The picture as it is seen: upright, and transparent parts over white.

    Returns:
        uint8 or uint16 (also of float32), (H, W, 3) RGB or (H, W) gray.

    Raises:
        InputError: the file cannot be read as a picture, or promises more than ``max_pixels``.
    """
    return over_white(decode_photo(read_file(path), str(path), max_pixels=max_pixels))


def over_white(photo: Photo) -> NDArray[Any]:
    """Pixels of ``photo`` where it is opaque, white where it is transparent: uint8 or uint16."""
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


def eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels of 8 or 16 bits → 8 bits; 0 and white stay 0 and white."""
    if pixels.dtype == np.uint16:
        return np.rint(pixels / 257).astype(np.uint8)
    return pixels.astype(np.uint8, copy=False)


def small_picture(
    path: Path, largest_px: tuple[int, int], *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Image.Image:
    """An RGB picture of at most ``largest_px`` (width, height), never enlarged.

    A large JPEG is decoded in a fraction of its size, which takes a tenth of the time. Raises
    ``InputError`` like `read_pixels`.
    """
    data = read_file(path)
    pixels_8 = reduced_jpeg(data, largest_px, max_pixels=max_pixels)
    if pixels_8 is None:
        pixels = over_white(decode_photo(data, str(path), max_pixels=max_pixels))
        pixels_8 = eight_bits(pixels)
    picture = Image.fromarray(pixels_8).convert("RGB")
    picture.thumbnail(largest_px, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return picture
