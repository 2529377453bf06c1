"""Pictures as a page needs them: small ones inside it, large ones as links."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restorecli.errors import RestoreError
from restorecli.limits import DEFAULT_MAX_PIXELS

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


Look = Callable[[Path], NDArray[np.uint8] | None]  # uint8 (H, W, 3) of what is no picture


@dataclass(frozen=True, slots=True)
class Source:
    """What goes into ``src``; ``reduced`` when it is not the file itself, pixel for pixel."""

    url: str | None  # None: the picture is not there or cannot be read
    reduced: bool = False


def source(
    path: Path,
    folder: Path,
    *,
    inline: bool,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    look: Look | None = None,
) -> Source:
    """The picture for a page in ``folder``: its own bytes, a link, or a reduced copy.

    Only formats that we read ourselves are looked into, so no other program is ever started.
    """
    from restorecli.images import identify

    try:
        mime = BROWSER_FORMATS.get(identify(path) or "")
        if mime and inline:
            return Source(_data_url(path.read_bytes(), mime))
    except (OSError, RestoreError):  # not there, or no file
        mime = None
    if mime:
        return Source(link(path, folder))
    image_8 = _small(path, REDUCED_PX, max_pixels, look)
    return Source(None if image_8 is None else _encode(image_8, quality=92), reduced=True)


def link(path: Path, folder: Path) -> str:
    """URL of ``path`` as seen from a page in ``folder``; absolute only across drives."""
    try:
        relative = os.path.relpath(path, folder)
    except ValueError:  # another drive
        return path.absolute().as_uri()
    return quote(Path(relative).as_posix())


def file_link(path: str, folder: Path) -> str | None:
    """URL of a file that is there, as seen from a page in ``folder``; None for what is not here."""
    try:
        return link(Path(path), folder) if Path(path).is_file() else None
    except OSError:
        return None


def thumbnail(path: Path, *, max_pixels: int, look: Look | None = None) -> str | None:
    """A small copy as a data URL, or None for what cannot be read."""
    image = _small(path, THUMBNAIL_PX, max_pixels, look)
    return None if image is None else _encode(image, quality=70)


def total_bytes(paths: Iterable[str]) -> int:
    """Size of the files that exist, each counted once."""
    return sum(os.path.getsize(path) for path in set(paths) if os.path.isfile(path))  # noqa: PTH113, PTH202 (no raising)


def _small(
    path: Path, largest_px: tuple[int, int], max_pixels: int, look: Look | None
) -> Image.Image | None:
    from restorecli.images.seen import small_picture

    pixels = None if look is None else look(path)
    if pixels is not None:
        image = Image.fromarray(pixels)
        image.thumbnail(largest_px, Image.Resampling.LANCZOS)
        return image
    try:
        return small_picture(path, largest_px, max_pixels=max_pixels)
    except RestoreError:
        return None


def _encode(image: Image.Image, *, quality: int) -> str:
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=quality, method=2)
    return _data_url(stream.getvalue(), "image/webp")


def _data_url(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
