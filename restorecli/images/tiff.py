"""TIFF: pixels read through tifffile, metadata kept as the bytes that EXIF consists of.

EXIF *is* a small TIFF file. A written TIFF therefore begins with the EXIF block, so that every
offset in it, makers' notes included, stays true; a new first directory at the end joins its
entries with those of the picture.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from restorecli.errors import InputError, OutputError
from restorecli.images.formats import TIFF_MAGIC, too_large
from restorecli.images.metadata import EXIF_HEADER, ORIENTATION_TAG, exif_upright, xmp_upright
from restorecli.images.photo import Carried, Photo

DNG_VERSION, XMP, ICC = 50706, 700, 34675
X_RESOLUTION, RESOLUTION_UNIT = 282, 296
# Tags that say how pixels lie in this one file, and those that are carried elsewhere.
STRUCTURE = {
    254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284,
    288, 289, 290, 291, 292, 293, 317, 320, 321, 322, 323, 324, 325, 330, 332, 334, 336, 337, 338,
    339, 340, 341, 342, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532,
    XMP, ICC, 37724, 50215, 50216,
}  # fmt: skip
PHOTOMETRIC = tifffile.PHOTOMETRIC
GRAY = {PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE}
RAW = {PHOTOMETRIC.CFA, PHOTOMETRIC.LINEAR_RAW}
STRIP_BYTES = 1 << 20
TYPES = {"H": 3, "I": 4}  # format of struct → TIFF's code


def is_raw(data: bytes) -> bool:
    """Whether this is a camera's raw file in TIFF's clothes, such as DNG, CR2 or NEF."""
    if data[8:10] == b"CR":
        return True
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        return (
            DNG_VERSION in page.tags
            or page.photometric in RAW
            or (bool(page.is_reduced) and 330 in page.tags)  # a preview; the rest is below it
        )


def read_tiff(name: str, data: bytes, *, max_pixels: int) -> tuple[Photo, int]:
    """Decode the only page of a TIFF, not yet turned, and its orientation.

    Raises ``InputError`` for several pages and for what cannot be kept.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        if not page.imagewidth * page.imagelength:
            raise ValueError("it has no pixels")
        if page.imagewidth * page.imagelength > max_pixels:
            raise too_large(name, page.imagewidth, page.imagelength, max_pixels)
        if len(file.pages) > 1:
            raise InputError(
                f"Cannot restore {name}: it has {len(file.pages)} pages, and only one can be kept.",
                hint="Split it into one file for each page.",
            )
        pixels, alpha = _planes(name, page, len(data))
        carried = _carried(page, data)
        orientation = page.tags.valueof(ORIENTATION_TAG, 1)
    return Photo(pixels=pixels, alpha=alpha, carried=carried), orientation


def _planes(
    name: str, page: tifffile.TiffPage, size_bytes: int
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Gray or RGB in the type it is stored in, and straight alpha."""

    def refuse(what: str) -> InputError:
        return InputError(
            f"Cannot restore {name}: {what}.",
            hint="Expected gray or RGB of 8 or 16 bits or float32, with or without straight alpha.",
        )

    photometric, extra = page.photometric, tuple(page.extrasamples)
    from_jpeg = page.compression in {6, 7} and photometric == PHOTOMETRIC.YCBCR
    palette = photometric == PHOTOMETRIC.PALETTE
    if photometric not in GRAY | {PHOTOMETRIC.RGB} and not from_jpeg and not palette:
        kind = getattr(photometric, "name", photometric)
        raise refuse(f"its colours are {kind}")
    if extra not in {(), (2,)}:
        raise refuse("its alpha is premultiplied or of unknown meaning")
    if page.imagedepth != 1 or page.dtype not in (bool, np.uint8, np.uint16, np.float32):
        raise refuse(f"its values are {page.dtype}")
    if page.dtype in (np.uint8, np.uint16) and page.bitspersample not in {4, 8, 16}:
        raise refuse(f"it has {page.bitspersample} bits per channel")
    _refuse_missing_data(page, size_bytes)
    values = page.asarray(maxworkers=1)
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        values = np.moveaxis(values, 0, -1)
    if palette:
        values = (np.asarray(page.colormap) >> 8).astype(np.uint8).T[values]
    elif values.dtype == bool:
        values = values.astype(np.uint8) * 255
    elif page.bitspersample == 4:
        values = values * np.uint8(17)
    channels = 1 if photometric in GRAY else 3
    values = values.reshape(page.imagelength, page.imagewidth, channels + len(extra))
    if values.dtype.kind == "f":
        values = values.astype(np.float32)
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= 1):  # also true for NaN
            raise InputError(
                f"Cannot restore {name}: its values go from {low:g} to {high:g}, expected 0 to 1.",
                hint="Scale them, and replace NaN and infinity.",
            )
    pixels = values[..., 0] if channels == 1 else values[..., :3]
    if photometric == PHOTOMETRIC.MINISWHITE:
        pixels = ~pixels if values.dtype.kind == "u" else 1 - pixels
    return pixels, values[..., channels] if extra else None


def _refuse_missing_data(page: tifffile.TiffPage, size_bytes: int) -> None:
    """Tifffile would fill strips that are not there with zeros."""
    ends = [at + size for at, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if len(ends) != math.prod(page.chunked) or not all(page.databytecounts):
        raise ValueError("strips or tiles are missing")
    if max(ends) > size_bytes:
        raise ValueError("its data go beyond its end")


def _carried(page: tifffile.TiffPage, data: bytes) -> Carried:
    tags = Image.Exif()
    try:
        tags.load(data)
        for tag in STRUCTURE & set(tags):
            del tags[tag]
        exif = exif_upright(tags.tobytes()) if len(tags) else None
    except Exception:  # Pillow reports broken tags in many ways; pixels do not depend on them
        exif = None
    xmp, icc_profile = page.tags.valueof(XMP), page.tags.valueof(ICC)
    return Carried(
        exif=exif,
        xmp=xmp_upright(_bytes(xmp)) if xmp else None,
        icc_profile=_bytes(icc_profile) if icc_profile else None,
        dpi=_dpi(page),
    )


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _dpi(page: tifffile.TiffPage) -> tuple[float, float] | None:
    unit = {2: 1.0, 3: 2.54}.get(page.tags.valueof(RESOLUTION_UNIT, 2))
    values = [page.tags.valueof(tag) for tag in (X_RESOLUTION, X_RESOLUTION + 1)]
    if unit is None or not all(isinstance(v, tuple) and len(v) == 2 and v[1] for v in values):
        return None
    return values[0][0] / values[0][1] * unit, values[1][0] / values[1][1] * unit


def encode_tiff(photo: Photo) -> bytes:
    """``photo`` as a TIFF of one page, losslessly compressed; EXIF byte for byte in front.

    Raises ``OutputError`` above 4 GB, which TIFF's offsets cannot reach.
    """
    exif = (photo.carried.exif or b"").removeprefix(EXIF_HEADER)
    if exif[:4] not in TIFF_MAGIC[:2]:
        exif = b"II*\0" + struct.pack("<I", 8) + struct.pack("<HI", 0, 0)
    order: Literal["<", ">"] = "<" if exif.startswith(b"II") else ">"
    body = bytearray(exif + b"\0" * (len(exif) % 2))
    entries = _entries(exif, order)

    def add(tag: int, kind: int, count: int, value: bytes) -> None:
        """An entry; what is longer than four bytes goes to the end of the file."""
        if len(value) > 4:
            at = struct.pack(f"{order}I", len(body))
            body.extend(value + b"\0" * (len(value) % 2))
            value = at
        entries[tag] = struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")

    def numbers(tag: int, kind: str, *values: int) -> None:
        add(tag, TYPES[kind], len(values), struct.pack(f"{order}{len(values)}{kind}", *values))

    planes = photo.pixels[..., None] if photo.is_gray else photo.pixels
    if photo.alpha is not None:
        planes = np.concatenate([planes, photo.alpha[..., None]], axis=-1)
        numbers(338, "H", 2)  # straight alpha
    height, width, channels = planes.shape
    is_float = planes.dtype.kind == "f"
    rows = max(1, STRIP_BYTES // (width * channels * planes.itemsize))
    offsets, sizes = [], []
    for top in range(0, height, rows):
        strip = planes[top : top + rows]
        if not is_float:  # predictor 2: differences along the row, modulo the type
            strip = np.concatenate([strip[:, :1], strip[:, 1:] - strip[:, :-1]], axis=1)
        coded = zlib.compress(strip.astype(strip.dtype.newbyteorder(order)).tobytes())
        offsets.append(len(body))
        sizes.append(len(coded))
        body.extend(coded + b"\0" * (len(coded) % 2))
        if len(body) > 0xF000_0000:
            raise OutputError("TIFF cannot hold more than 4 GB.", hint="Choose a .png name.")
    numbers(256, "I", width)
    numbers(257, "I", height)
    numbers(258, "H", *[photo.bits] * channels)
    numbers(259, "H", 8)  # deflate
    numbers(262, "H", 1 if photo.is_gray else 2)
    numbers(273, "I", *offsets)
    numbers(277, "H", channels)
    numbers(278, "I", rows)
    numbers(279, "I", *sizes)
    numbers(284, "H", 1)
    numbers(317, "H", 1 if is_float else 2)
    numbers(339, "H", *[3 if is_float else 1] * channels)
    if photo.carried.dpi and X_RESOLUTION not in entries:
        for i, dpi in enumerate(photo.carried.dpi):
            add(X_RESOLUTION + i, 5, 1, struct.pack(f"{order}II", round(dpi * 10_000), 10_000))
        numbers(RESOLUTION_UNIT, "H", 2)
    for tag, kind, value in ((XMP, 1, photo.carried.xmp), (ICC, 7, photo.carried.icc_profile)):
        if value:
            add(tag, kind, len(value), value)
    body[4:8] = struct.pack(f"{order}I", len(body))
    body.extend(struct.pack(f"{order}H", len(entries)))
    body.extend(b"".join(entries[tag] for tag in sorted(entries)))
    body.extend(struct.pack(f"{order}I", 0))
    return bytes(body)


def _entries(exif: bytes, order: str) -> dict[int, bytes]:
    """Entries of the first directory, less those that describe pixels; none if it is broken."""
    entries = {}
    try:
        (at,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, at)
        for i in range(count):
            entry = exif[at + 2 + 12 * i : at + 14 + 12 * i]
            (tag,) = struct.unpack_from(f"{order}H", entry)
            if len(entry) == 12 and tag not in STRUCTURE:
                entries[tag] = entry
    except struct.error:
        pass  # broken EXIF: its bytes stay in the file, nothing points to them
    return entries
