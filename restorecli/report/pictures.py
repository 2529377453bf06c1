"""Pictures as a page needs them: small ones inside it, large ones as links."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from restorecli.errors import RestoreError

Reader = Callable[[Path], NDArray[Any]]
BROWSER_FORMATS = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
}
THUMBNAIL_PX = (144, 96)  # twice the size it is shown at, for dense screens
REDUCED_PX = (1600, 1600)  # of pictures that browsers cannot show
EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


@dataclass(frozen=True, slots=True)
class Source:
    """What goes into ``src``; ``reduced`` when it is not the file itself, pixel for pixel."""

    url: str | None  # None: the picture is not there or cannot be read
    reduced: bool = False


def source(path: Path, folder: Path, read: Reader | None, *, inline: bool) -> Source:
    """The picture for a page in ``folder``: its own bytes, a link, or a reduced copy."""
    try:
        with Image.open(path) as image:
            mime = BROWSER_FORMATS.get(image.format or "")
        if mime and inline:
            return Source(_data_url(path.read_bytes(), mime))
    except OSError:  # not there, or not a format Pillow knows
        mime = None
    if mime:
        return Source(link(path, folder))
    image_8 = _small(path, REDUCED_PX, read)
    return Source(None if image_8 is None else _encode(image_8, quality=92), reduced=True)


def link(path: Path, folder: Path) -> str:
    """URL of ``path`` as seen from a page in ``folder``; absolute only across drives."""
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # another drive
        return path.absolute().as_uri()
    return quote(Path(relative).as_posix())


def thumbnail(path: Path, read: Reader | None) -> str | None:
    """A small copy as a data URL, or None for what cannot be read."""
    image = _small(path, THUMBNAIL_PX, read)
    return None if image is None else _encode(image, quality=70)


def total_bytes(paths: Iterable[str]) -> int:
    """Size of the files that exist, each counted once."""
    return sum(Path(path).stat().st_size for path in set(paths) if Path(path).is_file())


def _small(path: Path, largest_px: tuple[int, int], read: Reader | None) -> Image.Image | None:
    """At most ``largest_px``, upright, 8-bit RGB, over white; never enlarged."""
    image = _open(path, largest_px) or _read_by(path, read)
    if image is None:
        return None
    image.thumbnail(largest_px, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return image


def _open(path: Path, largest_px: tuple[int, int]) -> Image.Image | None:
    try:
        with Image.open(path) as image:
            if image.mode not in EIGHT_BIT_MODES:
                return None
            image.draft("RGB", largest_px)
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")
                white = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(white, upright)
            return upright.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return None


def _read_by(path: Path, read: Reader | None) -> Image.Image | None:
    if read is None:
        return None
    try:
        pixels = read(path)
    except RestoreError:
        return None
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257).astype(np.uint8)
    return Image.fromarray(pixels).convert("RGB")


def _encode(image: Image.Image, *, quality: int) -> str:
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=quality, method=2)
    return _data_url(stream.getvalue(), "image/webp")


def _data_url(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
