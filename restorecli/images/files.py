"""Read and write PNG, JPEG and WebP through Pillow, keeping what the photograph carries.

What cannot be kept is refused rather than degraded: CMYK and animations. 16-bit PNG is read for
scoring; the writer does not know it yet.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

from restorecli.atomic import write_atomically
from restorecli.errors import InputError, OutputError
from restorecli.images.metadata import ORIENTATION_TAG, exif_upright, xmp_upright
from restorecli.images.photo import Carried, Photo

FORMAT_OF_SUFFIX = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
READABLE = {"PNG", "JPEG", "WEBP", "MPO"}  # MPO: a JPEG with further pictures behind it
MAX_PIXELS = 500_000_000  # above this a header is taken for a decompression bomb
NEW_LOSSY_QUALITY = 95  # where the source had no JPEG or WebP quality to follow
PNG_BIT_DEPTH_AT = 24  # offset of the bit depth in a PNG's first chunk
MODES = {  # Pillow's mode → the mode it is read as, without loss
    "1": "L",
    "L": "L",
    "LA": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBA": "RGBA",
}


def identify(path: Path) -> str | None:
    """Format of the picture in ``path`` by its content, or ``None`` if it is not a picture."""
    try:
        with _bombs_are_ours(), path.open("rb") as file, Image.open(file) as picture:
            return picture.format
    except (UnidentifiedImageError, ValueError, SyntaxError, EOFError):
        return None
    except OSError as error:
        raise _cannot_read(path, error) from error


def read_photo(path: Path) -> Photo:
    """Decode ``path``: upright pixels, alpha, metadata.

    EXIF orientation is applied once and its tag reset. Palettes become RGB. Pixels are uint8, or
    uint16 for a 16-bit PNG, whose metadata are not read. Raises ``InputError``
    for anything missing, broken, or that could not be kept (CMYK, animation).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _cannot_read(path, error) from error
    if not data:
        raise InputError(f"Cannot read {path}: the file is empty (0 bytes).")
    try:
        with _bombs_are_ours(), Image.open(io.BytesIO(data)) as picture:
            _refuse_what_would_be_lost(path, picture)
            if picture.format == "PNG" and data[PNG_BIT_DEPTH_AT] == 16:
                return _decoded_deep(path, picture, data)
            return _decoded(picture, data)
    except UnidentifiedImageError as error:
        raise InputError(f"Cannot read {path}: not an image {_beginning(data)}.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(
            f"Cannot read {path}: the {len(data):,}-byte file is damaged or truncated ({error}).",
            hint="Copy it again from its source.",
        ) from error


def _decoded(picture: Image.Image, data: bytes) -> Photo:
    picture.load()  # metadata after the pixels is known only now
    info, source_format = picture.info, picture.format
    exif, xmp = info.get("exif"), info.get("xmp")
    carried = Carried(
        exif=exif_upright(exif) if exif else None,
        xmp=xmp_upright(xmp) if xmp else None,
        icc_profile=info.get("icc_profile"),
        dpi=info.get("dpi"),
        jpeg_tables=getattr(picture, "quantization", {}),
        jpeg_subsampling=(
            JpegImagePlugin.get_sampling(picture) if source_format in {"JPEG", "MPO"} else -1
        ),
        lossless=source_format == "WEBP" and b"VP8L" in data[:4096],
    )
    notes: tuple[str, ...] = ()
    if (further := getattr(picture, "n_frames", 1) - 1) > 0:
        notes = (f"{further} further picture(s) behind the first one are not kept",)
    mode = MODES[picture.mode]
    if "transparency" in info:
        mode = {"L": "LA", "RGB": "RGBA"}.get(mode, mode)
    upright = ImageOps.exif_transpose(picture).convert(mode)
    planes = np.array(upright)
    if mode in {"LA", "RGBA"}:
        pixels, alpha = planes[..., :-1], np.ascontiguousarray(planes[..., -1])
        pixels = pixels[..., 0] if mode == "LA" else pixels
        return Photo(pixels=np.ascontiguousarray(pixels), alpha=alpha, carried=carried, notes=notes)
    return Photo(pixels=planes, carried=carried, notes=notes)


def _decoded_deep(path: Path, picture: Image.Image, data: bytes) -> Photo:
    """A 16-bit PNG through OpenCV, because Pillow makes 8 bits of its colours."""
    import cv2

    planes = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if planes is None or planes.dtype != np.uint16:
        raise InputError(f"Cannot read {path}: its 16-bit data are damaged.")
    if picture.getexif().get(ORIENTATION_TAG, 1) != 1:
        raise InputError(f"Cannot read {path}: it has 16 bits and is stored turned.")
    if planes.ndim == 2:
        return Photo(pixels=planes)
    alpha = np.ascontiguousarray(planes[..., 3]) if planes.shape[2] == 4 else None
    return Photo(pixels=np.ascontiguousarray(planes[..., 2::-1]), alpha=alpha)


def _refuse_what_would_be_lost(path: Path, picture: Image.Image) -> None:
    kind = picture.format
    if kind not in READABLE:
        raise InputError(
            f"Cannot restore {path}: {kind} pictures are not supported.",
            hint="Convert it to PNG, JPEG or WebP.",
        )
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"Cannot read {path}: its header promises {width}×{height} pixels, "
            f"more than the limit of {MAX_PIXELS // 10**6} million."
        )
    if getattr(picture, "is_animated", False) and kind != "MPO":
        raise InputError(
            f"Cannot restore {path}: it is animated ({getattr(picture, 'n_frames', 0)} frames)."
        )
    if picture.mode not in MODES and not picture.mode.startswith("I;16"):
        raise InputError(
            f"Cannot restore {path}: its colours are {picture.mode}, expected RGB or gray.",
            hint="Convert it to RGB first.",
        )


def check_target(path: Path, *, alpha: bool) -> None:
    """Refuse a name whose format is unknown or cannot hold what the photograph has."""
    kind = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if kind is None:
        raise OutputError(
            f"Cannot write {path}: unknown format {path.suffix or 'without a suffix'}.",
            hint=f"Use one of {', '.join(FORMAT_OF_SUFFIX)}.",
        )
    if alpha and kind == "JPEG":
        raise OutputError(
            f"Cannot write {path}: the photograph has transparency, which JPEG cannot keep.",
            hint="Choose a .png or .webp name with -o.",
        )


def write_photo(photo: Photo, path: Path, *, overwrite: bool) -> None:
    """Encode ``photo`` in the format of ``path``'s suffix; ``path`` appears only when complete.

    Raises ``OutputError`` when it exists and ``overwrite`` is false, or cannot be written.
    """
    check_target(path, alpha=photo.alpha is not None)
    try:
        data = _encoded(photo, FORMAT_OF_SUFFIX[path.suffix.lower()])
    except (OSError, ValueError) as error:
        raise OutputError(f"Cannot encode {path}: {error}.") from error
    write_atomically(path, data, overwrite=overwrite)


def _encoded(photo: Photo, kind: str) -> bytes:
    planes = photo.pixels
    if photo.alpha is not None:
        planes = np.dstack([planes, photo.alpha])
    picture = Image.fromarray(planes)
    carried = photo.carried
    options: dict[str, Any] = {"exif": carried.exif, "icc_profile": carried.icc_profile}
    if carried.dpi:
        options["dpi"] = carried.dpi
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        if carried.xmp:
            text.add_itxt("XML:com.adobe.xmp", carried.xmp.decode("utf-8", "replace"))
        options["pnginfo"] = text
    else:
        options["xmp"] = carried.xmp
    if kind == "JPEG":
        if carried.jpeg_tables:
            options["qtables"] = dict(carried.jpeg_tables)
            options["subsampling"] = carried.jpeg_subsampling
        else:
            options |= {"quality": NEW_LOSSY_QUALITY, "subsampling": 0}
    if kind == "WEBP":
        options |= {"lossless": carried.lossless, "quality": NEW_LOSSY_QUALITY, "exact": True}
    target = io.BytesIO()
    picture.save(target, kind, **{k: v for k, v in options.items() if v is not None})
    return target.getvalue()


@contextmanager
def _bombs_are_ours() -> Iterator[None]:
    """Switch Pillow's own pixel limit off: ``MAX_PIXELS`` is checked before decoding."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # corrupt metadata is kept as it is
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _cannot_read(path: Path, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"Cannot read {path}: no such file.", hint="Check the name.")
    if isinstance(error, IsADirectoryError):
        return InputError(f"Cannot read {path}: it is a folder, expected a picture.")
    return InputError(f"Cannot read {path}: {error.strerror or error}.")


def _beginning(data: bytes) -> str:
    return f"(starts with {data[:12].decode('latin-1')!r})"
