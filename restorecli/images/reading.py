"""Read photographs, keeping what they carry. What cannot be kept is refused, not degraded."""

from __future__ import annotations

import io
import logging
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageCms, JpegImagePlugin, UnidentifiedImageError

from restorecli.errors import InputError
from restorecli.files.addresses import is_remote
from restorecli.images import png
from restorecli.images.formats import (
    AVIF_BRANDS,
    HEAD_BYTES,
    HEIC_BRANDS,
    READABLE,
    TIFF_MAGIC,
    brands,
    foreign,
    too_large,
)
from restorecli.images.metadata import ORIENTATION_TAG, exif_upright, upright, xmp_upright
from restorecli.images.photo import Carried, Photo
from restorecli.limits import DEFAULT_MAX_PIXELS

MAX_PIXELS = DEFAULT_MAX_PIXELS
MODES = {  # Pillow's mode → the mode it is read as, without loss
    "1": "L",
    "L": "L",
    "LA": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBA": "RGBA",
}
CARRIED_SEGMENTS = {  # of a JPEG: IPTC, and what XMP did not fit into one segment
    b"\xff\xed": b"Photoshop 3.0\0",
    b"\xff\xe1": b"http://ns.adobe.com/xmp/extension/\0",
}


def identify(path: Path) -> str | None:
    """Format of the picture in ``path`` by its content, or ``None`` if it is not a picture."""
    try:
        with path.open("rb") as file:
            return identify_data(file)
    except OSError as error:
        raise _cannot_read(path, error) from error


def identify_data(file: IO[bytes]) -> str | None:
    """Format of the picture that starts here, or ``None``; reads as little as it can."""
    head = file.read(HEAD_BYTES)
    if foreign(head):
        return None
    if head.startswith(TIFF_MAGIC):
        return "TIFF"
    if brands(head) & HEIC_BRANDS and not brands(head) & AVIF_BRANDS:
        return "HEIF"
    try:
        with _quiet_decoders(), Image.open(file) as picture:
            return picture.format
    except Exception:  # hostile bytes make decoders raise almost anything
        return None


def read_photo(path: Path, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode ``path``: `decode_photo` of its content."""
    return decode_photo(read_file(path), str(path), max_pixels=max_pixels)


def read_file(path: Path) -> bytes:
    """Content of a file that can be a picture; ``InputError`` for anything else."""
    try:
        if not is_remote(path) and path.exists() and not (path.is_file() or path.is_dir()):
            kind = stat.filemode(path.stat().st_mode)[0]
            raise InputError(f"Cannot read {path}: it is a device or a pipe ({kind}), not a file.")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            _refuse_foreign(str(path), head)
            return head + file.read()
    except OSError as error:
        raise _cannot_read(path, error) from error


def decode_photo(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """The photograph in ``data``, which messages call ``name``: upright pixels, alpha, metadata.

    EXIF orientation is applied once and its tag reset. Palettes become RGB, CMYK with a profile
    becomes sRGB. Pixels are uint8, uint16 or float32, as they are stored. Raises ``InputError``
    for anything broken, or that could not be kept.
    """
    if not data:
        raise InputError(f"Cannot read {name}: the file is empty (0 bytes).")
    head = data[:HEAD_BYTES]
    _refuse_foreign(name, head)
    try:
        with _quiet_decoders():
            if head.startswith(TIFF_MAGIC):
                photo, orientation = _tiff(name, data, max_pixels)
            else:
                with _opened(name, data) as picture:
                    _refuse_what_would_be_lost(name, picture, data, max_pixels)
                    photo, orientation = _decoded(name, picture, data)
            return _turned(photo, orientation)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"Cannot read {name}: there is not enough memory for it.") from error
    except Exception as error:  # hostile bytes make decoders raise almost anything
        raise InputError(
            f"Cannot read {name}: the {len(data):,}-byte file is damaged or truncated ({error}).",
            hint="Copy it again from its source.",
        ) from error


def _opened(name: str, data: bytes) -> Image.Image:
    kinds = brands(data[:HEAD_BYTES])
    if kinds & HEIC_BRANDS and not kinds & AVIF_BRANDS:
        try:
            import pillow_heif
        except ImportError as error:
            raise InputError(
                f"Cannot read {name}: HEIC needs a further package.",
                hint="Install it with: pip install 'restorecli[heic]'",
            ) from error
        pillow_heif.register_heif_opener()
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise InputError(f"Cannot read {name}: not an image {_beginning(data)}.") from error


def _tiff(name: str, data: bytes, max_pixels: int) -> tuple[Photo, int]:
    from restorecli.images import tiff

    if tiff.is_raw(data):
        raise _foreign(name, "a camera's raw file")
    return tiff.read_tiff(name, data, max_pixels=max_pixels)


def _decoded(name: str, picture: Image.Image, data: bytes) -> tuple[Photo, int]:
    """The photograph as it lies in its file, and its orientation."""
    picture.load()  # metadata after the pixels is known only now
    kind = picture.format
    tags = picture.getexif()
    orientation = tags.get(ORIENTATION_TAG, 1)
    carried = _carried(picture, data)
    notes: tuple[str, ...] = ()
    if kind == "MPO" and (further := getattr(picture, "n_frames", 1) - 1) > 0:
        notes = (f"{further} further picture(s) behind the first one are not kept",)
    if picture.mode == "CMYK":
        picture, profile = _rgb_of_cmyk(name, picture)
        carried = replace(carried, icc_profile=profile, jpeg_tables={}, jpeg_subsampling=-1)
        notes += ("converted from CMYK to sRGB by its colour profile",)
    if kind == "PNG" and png.is_deep(data):
        import imagecodecs

        planes = imagecodecs.png_decode(data)  # Pillow makes 8 bits of 16-bit colours
    else:
        mode = MODES[picture.mode]
        if "transparency" in picture.info:
            mode = {"L": "LA", "RGB": "RGBA"}.get(mode, mode)
        planes = np.array(picture.convert(mode))
    planes = planes.reshape(*planes.shape[:2], -1)
    channels = planes.shape[2]
    pixels = planes[..., 0] if channels < 3 else planes[..., :3]
    alpha = planes[..., -1] if channels in {2, 4} else None
    return Photo(pixels=pixels, alpha=alpha, carried=carried, notes=notes), orientation


def _carried(picture: Image.Image, data: bytes) -> Carried:
    info, kind = picture.info, picture.format
    exif, xmp = info.get("exif"), info.get("xmp")
    if exif is None and kind == "PNG" and (tags := picture.getexif()):
        exif = tags.tobytes()  # some tools write EXIF as text
    carried = Carried(
        exif=exif_upright(exif) if exif else None,
        xmp=xmp_upright(xmp.encode() if isinstance(xmp, str) else xmp) if xmp else None,
        icc_profile=info.get("icc_profile"),
        dpi=info.get("dpi"),
    )
    if kind == "PNG":
        return replace(carried, png_chunks=png.copied_chunks(data))
    if kind == "WEBP":
        return replace(carried, lossless=b"VP8L" in data[:4096])
    if kind == "AVIF":
        return replace(carried, avif_subsampling=_avif_subsampling(data))
    if isinstance(picture, JpegImagePlugin.JpegImageFile):
        return replace(
            carried,
            jpeg_tables=picture.quantization,
            jpeg_subsampling=JpegImagePlugin.get_sampling(picture),
            jpeg_segments=_jpeg_segments(picture),
            jpeg_comment=info.get("comment"),
        )
    return carried


def _jpeg_segments(picture: JpegImagePlugin.JpegImageFile) -> bytes:
    return b"".join(
        marker + (len(content) + 2).to_bytes(2, "big") + content
        for kind, content in picture.applist
        for marker, beginning in CARRIED_SEGMENTS.items()
        if kind == f"APP{marker[1] - 0xE0}" and content.startswith(beginning)
    )


def _av1_flags(data: bytes) -> int:
    """The byte of AVIF's codec configuration that tells depth and subsampling."""
    at = data.find(b"av1C")
    return data[at + 6] if 0 <= at < len(data) - 6 else 0


def _avif_subsampling(data: bytes) -> str:
    across, down = _av1_flags(data) & 0x08, _av1_flags(data) & 0x04
    return "4:2:0" if across and down else "4:2:2" if across else "4:4:4"


def _rgb_of_cmyk(name: str, picture: Image.Image) -> tuple[Image.Image, bytes]:
    """CMYK → sRGB by the embedded profile, and the profile of sRGB."""
    profile = picture.info.get("icc_profile")
    if not profile:
        raise InputError(
            f"Cannot restore {name}: its colours are CMYK and it has no profile that says which.",
            hint="Convert it to RGB first.",
        )
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    rgb = ImageCms.profileToProfile(
        picture,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        srgb,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert rgb is not None  # only in-place conversion gives None
    return rgb, srgb.tobytes()


def _turned(photo: Photo, orientation: int) -> Photo:
    alpha = None if photo.alpha is None else upright(photo.alpha, orientation)
    return replace(photo, pixels=upright(photo.pixels, orientation), alpha=alpha)


def _refuse_foreign(name: str, head: bytes) -> None:
    if kind := foreign(head):
        raise _foreign(name, kind)


def _foreign(name: str, kind: str) -> InputError:
    hint = "Save its frames as pictures." if "video" in kind else "Develop it to TIFF or PNG first."
    return InputError(f"Cannot restore {name}: it is {kind}, not a picture.", hint=hint)


def _refuse_what_would_be_lost(
    name: str, picture: Image.Image, data: bytes, max_pixels: int
) -> None:
    kind = picture.format
    if kind not in READABLE:
        raise InputError(
            f"Cannot restore {name}: {kind} pictures are not supported.",
            hint="Convert it to PNG, TIFF, JPEG or WebP.",
        )
    width, height = picture.size
    if width * height > max_pixels:
        raise too_large(name, width, height, max_pixels)
    if getattr(picture, "is_animated", False) and kind != "MPO":
        raise InputError(
            f"Cannot restore {name}: it is animated or has several pictures "
            f"({getattr(picture, 'n_frames', 0)}).",
            hint="Save the one to restore as a file of its own.",
        )
    bits = 8 + 2 * bool(_av1_flags(data) & 0x40) if kind == "AVIF" else 8
    if max(bits, picture.info.get("bit_depth", 8)) > 8:  # the latter of HEIC
        raise InputError(
            f"Cannot restore {name}: this {kind} has more than 8 bits, and 8 would be left.",
            hint="Convert it to a 16-bit PNG or TIFF first.",
        )
    deep_png = kind == "PNG" and png.is_deep(data)
    if picture.mode not in {*MODES, "CMYK"} and not deep_png:
        raise InputError(
            f"Cannot restore {name}: its colours are {picture.mode}, expected RGB or gray.",
            hint="Convert it to RGB first.",
        )


ONE_DECODER = threading.RLock()  # the switches below are those of the whole process


@contextmanager
def _quiet_decoders() -> Iterator[None]:
    """Switch Pillow's own pixel limit off: ours is checked before decoding. Nothing is logged."""
    for name in ("imagecodecs", "tifffile"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ONE_DECODER:
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
