"""Write photographs with everything they carry, in any format that can hold it."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from restorecli.errors import OutputError, RestoreError
from restorecli.files.atomic import write_atomically
from restorecli.images import png
from restorecli.images.formats import FORMAT_OF_SUFFIX, WRITABLE
from restorecli.images.metadata import Keep, reduced
from restorecli.images.photo import Photo
from restorecli.images.reading import MAX_PIXELS, decode_photo

Bits = Literal["source", "8", "16"]
NEW_LOSSY_QUALITY = 95  # where the source had no JPEG, WebP or AVIF quality to follow
TYPE_OF_BITS = {"8": np.uint8, "16": np.uint16}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """What the user wants of files: ``--bits``, ``--metadata``, ``--max-pixels``."""

    bits: Bits = "source"
    metadata: Keep = "keep"
    max_pixels: int = MAX_PIXELS

    def depth_of(self, photo: Photo) -> np.dtype[Any]:
        """Type of a result's values."""
        return photo.pixels.dtype if self.bits == "source" else np.dtype(TYPE_OF_BITS[self.bits])


def check_target(path: Path, *, alpha: bool, bits: int = 8) -> None:
    """Refuse a name whose format is unknown or cannot hold what the photograph has."""
    kind = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if kind is None:
        raise OutputError(
            f"Cannot write {path}: unknown format {path.suffix or 'without a suffix'}.",
            hint=f"Use one of {', '.join(FORMAT_OF_SUFFIX)}.",
        )
    if alpha and not WRITABLE[kind].alpha:
        raise OutputError(
            f"Cannot write {path}: the photograph has transparency, which {kind} cannot keep.",
            hint="Choose a .png, .tif or .webp name with -o.",
        )
    if bits not in WRITABLE[kind].bits:
        raise OutputError(
            f"Cannot write {path}: the result has {bits} bits, which {kind} cannot keep.",
            hint="Choose a .tif name, or a smaller --bits.",
        )


def lost_in(path: Path, photo: Photo) -> tuple[str, ...]:
    """Notes on metadata that the format of ``path`` cannot hold."""
    carried = photo.carried
    if WRITABLE[FORMAT_OF_SUFFIX[path.suffix.lower()]].metadata:
        return ()
    held = {"EXIF": carried.exif, "XMP": carried.xmp, "the colour profile": carried.icc_profile}
    lost = " and ".join(name for name, value in held.items() if value)
    return (f"{path.suffix} cannot keep {lost}",) if lost else ()


def encode_photo(photo: Photo, path: Path, *, metadata: Keep = "keep") -> bytes:
    """The content of ``path``, in the format of its suffix; raises ``OutputError``."""
    check_target(path, alpha=photo.alpha is not None, bits=photo.bits)
    photo = replace(photo, carried=reduced(photo.carried, metadata))
    try:
        return _encoded(photo, FORMAT_OF_SUFFIX[path.suffix.lower()])
    except RestoreError:
        raise
    except Exception as error:  # an encoder refuses, for example, 20,000 pixels in a row of WebP
        raise OutputError(f"Cannot encode {path}: {error}.") from error


def write_photo(photo: Photo, path: Path, *, overwrite: bool) -> None:
    """Encode ``photo`` in the format of ``path``'s suffix; ``path`` appears only when complete.

    Raises ``OutputError`` when it exists and ``overwrite`` is false, or cannot be written.
    """
    write_atomically(path, encode_photo(photo, path), overwrite=overwrite)


def verify(data: bytes, photo: Photo, path: Path) -> None:
    """Raise ``OutputError`` unless ``data`` can be read and shows a picture like ``photo``."""
    try:
        written = decode_photo(data, str(path), max_pixels=photo.pixels.size)
    except RestoreError as error:
        raise OutputError(f"{path} was not replaced: what would replace it is damaged.") from error
    if written.size != photo.size:
        raise OutputError(f"{path} was not replaced: the result would have another size.")


def _encoded(photo: Photo, kind: str) -> bytes:
    if kind == "TIFF":
        from restorecli.images.tiff import encode_tiff

        return encode_tiff(photo)
    planes = photo.pixels
    if photo.alpha is not None:
        planes = np.dstack([planes, photo.alpha])
    if kind == "PNG" and photo.bits == 16:
        import imagecodecs

        return png.with_chunks(bytes(imagecodecs.png_encode(planes, level=6)), photo.carried)
    target = io.BytesIO()
    Image.fromarray(planes).save(target, kind, **_options(photo, kind))
    data = target.getvalue()
    return png.with_chunks(data, photo.carried) if kind == "PNG" else data


def _options(photo: Photo, kind: str) -> dict[str, Any]:
    """What Pillow is told beside the pixels."""
    carried = photo.carried
    dpi = {"dpi": carried.dpi} if carried.dpi else {}
    if kind == "PNG":
        return {}
    if kind == "BMP":
        return dpi
    options: dict[str, Any] = {
        "exif": carried.exif,
        "xmp": carried.xmp,
        "icc_profile": carried.icc_profile,
    }
    if kind == "WEBP":
        options |= {"lossless": carried.lossless, "quality": NEW_LOSSY_QUALITY, "exact": True}
    if kind == "AVIF":
        # Alpha is coded with the same quality, and is to stay as it is.
        options["quality"] = NEW_LOSSY_QUALITY if photo.alpha is None else 100
        if not photo.is_gray:
            options["subsampling"] = carried.avif_subsampling
    if kind == "JPEG":
        options |= dpi | {"extra": carried.jpeg_segments, "comment": carried.jpeg_comment}
        if carried.jpeg_tables:
            options["qtables"] = dict(carried.jpeg_tables)
            options["subsampling"] = carried.jpeg_subsampling
        else:
            options |= {"quality": NEW_LOSSY_QUALITY, "subsampling": 0}
    return {name: value for name, value in options.items() if value is not None}
