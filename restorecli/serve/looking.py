"""What a browser can show of a picture: the file itself, or a smaller copy of it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from restorecli.errors import InputError
from restorecli.files.regular import open_regular
from restorecli.images import identify
from restorecli.images.formats import (
    HEAD_BYTES,
    TooManyPixelsError,
    foreign,
    refused_name,
    too_large,
)
from restorecli.images.seen import small_picture
from restorecli.report.pictures import BROWSER_FORMATS, REDUCED_PX
from restorecli.serve.album import Shown, Upload

THUMBNAIL_PX = (288, 216)  # twice the size it is shown at, for dense screens
AT_ONCE_PIXELS = 24_000_000  # decoded beside a run; more waits until none is under way
COPY_QUALITY, THUMBNAIL_QUALITY = 90, 75


def kind_of(path: Path) -> str:
    """Format of the picture in ``path``; ``InputError`` if it is none."""
    kind = identify(path)
    if kind is None:
        raise _not_a_picture(path)
    return kind


def _not_a_picture(path: Path) -> InputError:
    with open_regular(path) as file:
        head = file.read(HEAD_BYTES)
    if not head:
        return InputError(f"{path.name} is empty (0 bytes).")
    if kind := foreign(head) or refused_name(head):
        return InputError(f"{path.name} is {kind}, not a picture.")
    start = head[:12].decode("latin-1")
    return InputError(f"{path.name} is not a picture (it starts with {start!r}).")


def look(photo: Upload, *, max_pixels: int, at_once: bool = False) -> tuple[Path, Shown] | None:
    """The thumbnail of a photograph, and what to show of it.

    ``None`` if it is too large to be decoded ``at_once``, beside a run. Raises ``InputError`` if
    it is broken, or promises more than ``max_pixels``.
    """
    is_reduced = identify(photo.path) == "JPEG"  # while it is decoded
    least = max_pixels if is_reduced or not at_once else min(max_pixels, AT_ONCE_PIXELS)
    try:
        return _looked(photo, least)
    except TooManyPixelsError as error:
        photo.size = (error.height, error.width)
        if error.width * error.height > max_pixels:
            raise too_large(photo.name, error.width, error.height, max_pixels) from error
        return None


def _looked(photo: Upload, max_pixels: int) -> tuple[Path, Shown]:
    small = small_picture(photo.path, REDUCED_PX, max_pixels=max_pixels)
    thumbnail = photo.folder / "thumbnail.webp"
    shown = _shown(photo.path, small, photo.folder / "shown.webp")
    small.thumbnail(THUMBNAIL_PX, Image.Resampling.LANCZOS)
    small.save(thumbnail, "WEBP", quality=THUMBNAIL_QUALITY)
    return thumbnail, shown


def shown(path: Path, copy: Path, *, max_pixels: int) -> Shown:
    """What to show of a result; a copy is made at ``copy`` if browsers do not know its format."""
    if identify(path) in BROWSER_FORMATS:
        return Shown(path=path)
    return _shown(path, small_picture(path, REDUCED_PX, max_pixels=max_pixels), copy)


def _shown(path: Path, small: Image.Image, copy: Path) -> Shown:
    if identify(path) in BROWSER_FORMATS:
        return Shown(path=path)
    small.save(copy, "WEBP", quality=COPY_QUALITY)
    return Shown(path=copy, reduced=True)
