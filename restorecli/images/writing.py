"""Write photographs with everything they carry, in any format that can hold it."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from restorecli.errors import OutputError, RestoreError
from restorecli.files.atomic import write_atomically
from restorecli.images import bmff, carry, colour, jpeg, jxl, png, webp
from restorecli.images.formats import FORMAT_OF_SUFFIX, WRITABLE
from restorecli.images.metadata import Keep, reduced
from restorecli.images.photo import Photo, Pixels
from restorecli.images.reading import MAX_PIXELS, decode_photo

Bits = Literal["source", "8", "16"]
JpegQuality = int | Literal["source"] | None  # ``None``: the source's, but at least 95
NEW_LOSSY_QUALITY = 95  # and the least that a result gets: what was restored is to survive
NEW_LOSSY_DISTANCE = 0.5  # the same for JPEG XL
TYPE_OF_BITS = {"8": np.uint8, "16": np.uint16}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """What the user wants of files: ``--bits``, ``--metadata`` and the like."""

    bits: Bits = "source"
    metadata: Keep = "keep"
    max_pixels: int = MAX_PIXELS
    jpeg_quality: JpegQuality = None

    def depth_of(self, photo: Photo) -> np.dtype[Any]:
        """Type of a result's values."""
        return photo.pixels.dtype if self.bits == "source" else np.dtype(TYPE_OF_BITS[self.bits])


def format_of(path: Path) -> str:
    """The format that the suffix of ``path`` names; ``OutputError`` if it names none."""
    kind = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if kind is None:
        raise OutputError(
            f"Cannot write {path}: unknown format {path.suffix or 'without a suffix'}.",
            hint=f"Use one of {', '.join(FORMAT_OF_SUFFIX)}.",
        )
    return kind


def check_target(path: Path, *, alpha: bool, bits: int = 8, stored_bits: int = 0) -> None:
    """Refuse a name whose format is unknown or cannot hold what the photograph has.

    ``stored_bits`` are those of the source's file, which may be 10 or 12 where ``bits`` are 16.
    """
    kind = format_of(path)
    if alpha and not WRITABLE[kind].alpha:
        raise OutputError(
            f"Cannot write {path}: the photograph has transparency, which {kind} cannot keep.",
            hint="Choose a .png, .tif or .webp name with -o.",
        )
    if bits == 16 and stored_bits in {10, 12} and stored_bits in WRITABLE[kind].bits:
        return
    if bits not in WRITABLE[kind].bits:
        raise OutputError(
            f"Cannot write {path}: the result has {bits} bits, which {kind} cannot keep.",
            hint="Choose a .tif name, or a smaller --bits.",
        )


def other_than_named(path: Path, photo: Photo) -> str | None:
    """A note if the file ``path`` is of another format than its name says."""
    named = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    found = photo.carried.container
    return (
        f"it is {found}, although its name ends with {path.suffix}"
        if (named and found and named != found)
        else None
    )


def lost_in(path: Path, photo: Photo, *, metadata: Keep = "keep") -> tuple[str, ...]:
    """Notes on metadata that the format of ``path`` cannot hold."""
    kind = format_of(path)
    photo, told = _said_by_profile(photo, kind)
    carried = reduced(photo.carried, metadata)
    notes = [*told, *carry.moved(carried, kind)[1]]
    if photo.carried.trailer and not carried.trailer:
        notes.append("the clip behind the picture is not kept: it may tell where it was taken")
    if kind in NO_PROFILES and not _can_say(photo, kind):
        notes.append(f"converted to sRGB: {kind} can say nothing else of its colours")
    return tuple(notes)


def _can_say(photo: Photo, kind: str) -> bool:
    """Whether BMP or JPEG XL, as they are written here, mean the colours of ``photo``."""
    carried = photo.carried
    if carried.icc_profile:
        return kind == "JXL" and jxl.can_hold_profile(photo)
    is_linear = carried.colours is not None and carried.colours[:2] == LINEAR
    return colour.is_srgb(carried.colours) or (kind == "JXL" and is_linear and photo.bits > 8)


LINEAR = (1, 8)  # code points
NO_PROFILES = {"BMP", "JXL"}
NO_CODE_POINTS = {"JPEG", "WEBP", "TIFF"}


def encode_photo(
    photo: Photo,
    path: Path,
    *,
    metadata: Keep = "keep",
    jpeg_quality: JpegQuality = None,
) -> bytes:
    """The content of ``path``, in the format of its suffix; raises ``OutputError``."""
    kind = format_of(path)
    check_target(
        path, alpha=photo.alpha is not None, bits=photo.bits,
        stored_bits=photo.carried.bits,
    )  # fmt: skip
    try:
        return _encoded(_for_format(photo, kind, str(path), metadata), kind, jpeg_quality)
    except RestoreError:
        raise
    except Exception as error:  # an encoder refuses, for example, 20,000 pixels in a row of WebP
        raise OutputError(f"Cannot encode {path}: {error}.") from error


def _for_format(photo: Photo, kind: str, name: str, metadata: Keep) -> Photo:
    """``photo`` with the metadata that a file of ``kind`` gets, true of its pixels."""
    photo = _said_by_profile(photo, kind)[0]
    carried, _ = carry.moved(reduced(photo.carried, metadata), kind)
    photo = replace(photo, carried=carry.true_of(carried, photo))
    if kind in NO_PROFILES and not _can_say(photo, kind):
        return colour.to_srgb(photo, name)
    colours = photo.carried.colours
    if kind in NO_CODE_POINTS and colours and not photo.carried.icc_profile:
        profile = None
        if not colour.is_srgb(colours):
            profile = colour.profile_of(colours, name, gray=photo.is_gray)
        photo = replace(photo, carried=replace(photo.carried, icc_profile=profile, colours=None))
    return photo


def _said_by_profile(photo: Photo, kind: str) -> tuple[Photo, tuple[str, ...]]:
    """``photo`` with a profile where only chunks of a PNG said how colours are meant; a note."""
    if kind == "PNG":
        return photo, ()
    try:
        profile = colour.profile_of_png(photo.carried, gray=photo.is_gray)
    except Exception:  # LittleCMS refuses primaries that are no triangle
        return photo, ("the gamma and primaries of its colours make no sense and are not kept",)
    if profile is None:
        return photo, ()
    carried = replace(photo.carried, icc_profile=profile)
    photo = replace(photo, carried=carried)
    if kind in NO_PROFILES and not _can_say(photo, kind):
        return photo, ()  # it will be converted, which is told
    return photo, ("its gamma and primaries became a colour profile",)


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


def _encoded(photo: Photo, kind: str, jpeg_quality: JpegQuality) -> bytes:
    if kind == "TIFF":
        from restorecli.images.tiff import encode_tiff

        return encode_tiff(photo)
    planes = photo.pixels
    if photo.alpha is not None:
        planes = np.dstack([planes, photo.alpha])
    carried = photo.carried
    if kind == "PNG":
        return png.with_parts(_png(planes), carried)
    if kind == "AVIF":
        return bmff.with_parts(_avif(planes, photo), carried)
    if kind == "JXL":
        return jxl.with_parts(_jxl(planes, photo), carried)
    target = io.BytesIO()
    Image.fromarray(planes).save(target, kind, **_options(photo, kind, jpeg_quality))
    data = target.getvalue()
    if kind == "JPEG":
        return jpeg.with_parts(data, carried)
    return webp.with_parts(data, carried, photo.size) if kind == "WEBP" else data


def _png(planes: Pixels) -> bytes:
    if planes.dtype == np.uint16:
        import imagecodecs

        return bytes(imagecodecs.png_encode(planes, level=6))
    target = io.BytesIO()
    Image.fromarray(planes).save(target, "PNG")
    return target.getvalue()


def _avif(planes: Pixels, photo: Photo) -> bytes:
    """In the depth and subsampling of the source; code points are written by `bmff`, too."""
    import imagecodecs

    carried = photo.carried
    bits = 8
    if planes.dtype == np.uint16:
        bits = carried.bits
        planes = np.rint(planes * ((2**bits - 1) / 65_535)).astype(np.uint16)
    colours = bmff.code_points(carried)
    options: dict[str, Any] = {
        # Alpha is coded with the same quality, and is to stay as it is.
        "level": NEW_LOSSY_QUALITY if photo.alpha is None else 100,
        "bitspersample": bits,
        "pixelformat": "444" if carried.container != "AVIF" else carried.avif_subsampling,
        "numthreads": 1,
    }
    if photo.is_gray:
        options["pixelformat"] = "400"
    meant: dict[str, Any] = {
        "primaries": colours.primaries,
        "transfer": colours.transfer,
        "matrix": 2 if photo.is_gray else colours.matrix if colours.matrix in MATRICES else 6,
    }
    try:
        return bytes(imagecodecs.avif_encode(planes, **options, **meant))
    except TypeError:  # imagecodecs of Python 3.10 does not take them
        return bytes(imagecodecs.avif_encode(planes, **options))


MATRICES = {1, 5, 6, 9}  # those that are linear in what they mix


def _jxl(planes: Pixels, photo: Photo) -> bytes:
    """Lossless, unless the source was lossy and has 8 bits."""
    import imagecodecs

    carried = photo.carried
    is_lossless = planes.dtype != np.uint8 or carried.lossless or carried.container not in LOSSY
    quality = {"lossless": True} if is_lossless else {"distance": NEW_LOSSY_DISTANCE}
    if carried.icc_profile:
        distance = None if is_lossless else NEW_LOSSY_DISTANCE
        return jxl.with_profile(planes, carried.icc_profile, distance=distance)
    data = bytes(imagecodecs.jpegxl_encode(planes, usecontainer=False, numthreads=1, **quality))
    start, end = 0, len(data)
    if not data.startswith(jxl.CODESTREAM):
        start, end = next((a, b) for name, a, b in bmff.boxes(data) if name == "jxlc")
    if planes.dtype == np.uint8 or (carried.colours and carried.colours[:2] == LINEAR):
        return data
    # The encoder takes values of more than 8 bits for linear light; ours are as they are shown.
    return data[:start] + jxl.with_srgb_curve(data[start:end]) + data[end:]


SUBSAMPLINGS: dict[tuple[tuple[int, int], ...], int] = {  # Pillow's codes
    ((2, 1), (1, 1), (1, 1)): 1,
    ((2, 2), (1, 1), (1, 1)): 2,
}
LOSSY = {"JPEG", "WEBP", "AVIF", "HEIF", "JXL"}


def _options(photo: Photo, kind: str, jpeg_quality: JpegQuality) -> dict[str, Any]:
    """What Pillow is told beside the pixels."""
    carried = photo.carried
    if kind == "BMP":
        return {"dpi": carried.dpi} if carried.dpi else {}
    if kind == "WEBP":
        return {"lossless": carried.lossless, "quality": NEW_LOSSY_QUALITY, "exact": True}
    return _jpeg_options(photo, jpeg_quality)


def _jpeg_options(photo: Photo, quality: JpegQuality) -> dict[str, Any]:
    """Tables and subsampling: each step as fine as in the source, or at `NEW_LOSSY_QUALITY`.

    A number is that quality. ``source`` keeps the source's own tables and subsampling, where an
    encoder can write it.
    """
    tables = photo.carried.jpeg_tables
    if isinstance(quality, int) or not tables or len(tables) not in {1, 3}:
        number = quality if isinstance(quality, int) else NEW_LOSSY_QUALITY
        return {"quality": number, "subsampling": 0}
    fine = _tables_of_quality(NEW_LOSSY_QUALITY)
    different = 1 if photo.is_gray else 3 if tables[1:2] != tables[2:3] else 2
    natural = [jpeg.natural(table) for table in tables[:different]]
    if quality == "source":
        sampling = SUBSAMPLINGS.get(photo.carried.jpeg_sampling, 0)
        return {"qtables": dict(enumerate(natural)), "subsampling": sampling}
    finest = [
        [min(pair) for pair in zip(table, fine[min(i, 1)], strict=True)]
        for i, table in enumerate(natural)
    ]
    return {"qtables": dict(enumerate(finest)), "subsampling": 0}


@cache
def _tables_of_quality(quality: int) -> tuple[list[int], list[int]]:
    """Quantisation of brightness and colour that libjpeg uses at ``quality``."""
    target = io.BytesIO()
    Image.new("RGB", (8, 8)).save(target, "JPEG", quality=quality)
    tables = jpeg.tables(jpeg.apart(target.getvalue()))
    return jpeg.natural(tables[0]), jpeg.natural(tables[1])
