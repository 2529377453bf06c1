"""TIFF: pixels read through tifffile, metadata kept as the bytes that EXIF consists of.

EXIF *is* a small TIFF file. A written TIFF therefore begins with the EXIF block, so that every
offset in it, makers' notes included, stays true; a new first directory at the end joins its
entries with those of the picture. Of a TIFF that was read, the block holds copies of its
directories, with the makers' note where it was.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from restorecli.errors import InputError, OutputError
from restorecli.images import carry, colour, ifd, photoshop
from restorecli.images.formats import TIFF_MAGIC, inner_size, too_large
from restorecli.images.photo import Carried, Photo

DNG_VERSION, XMP, ICC = 50706, 700, 34675
X_RESOLUTION, RESOLUTION_UNIT = 282, 296
# Tags that say how pixels lie in this one file, and those that are carried elsewhere.
STRUCTURE = {
    254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284,
    288, 289, 290, 291, 292, 293, 317, 320, 321, 322, 323, 324, 325, 330, 332, 334, 336, 337, 338,
    339, 340, 341, 342, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532,
    XMP, ICC, 37724, 50784, 52545,
}  # fmt: skip
LEFT_BEHIND = {
    330: "previews and other pictures below the first one (sub-IFDs) are not kept",
    37724: "Photoshop's layers are not kept",
    50784: "Alias' layers are not kept",
    52545: "its content credentials sign the pixels as they were; not kept",
}
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
        further = [p for p in file.pages[1:] if not getattr(p, "is_reduced", False)]
        if further:
            raise InputError(
                f"Cannot restore {name}: it has {len(further) + 1} pages, and only one can be "
                "kept.",
                hint="Split it into one file for each page.",
            )
        notes = [note for tag, note in LEFT_BEHIND.items() if tag in page.tags]
        notes += ifd.left_behind(data, STRUCTURE)
        if len(file.pages) > 1:
            notes.append(f"{len(file.pages) - 1} smaller preview(s) behind it are not kept")
        arrived = carry.settled(_carried(page, data), notes)
        planes, alpha = _planes(name, page, data)
        orientation = ifd.orientation(data)
    photo = Photo(
        pixels=planes,
        alpha=alpha,
        carried=arrived.carried,
        notes=arrived.notes,
    )
    if page.photometric == PHOTOMETRIC.SEPARATED:
        photo = _without_inks(name, photo)
    return photo, orientation


def _without_inks(name: str, photo: Photo) -> Photo:
    rgb = colour.from_cmyk(name, photo.pixels, photo.carried.icc_profile)
    carried = replace(photo.carried, icc_profile=colour.srgb_profile())
    notes = (*photo.notes, "converted from CMYK to sRGB by its colour profile")
    return replace(photo, pixels=rgb, carried=carried, notes=notes)


def _channels(name: str, page: tifffile.TiffPage) -> int:
    """How many channels of colour there are; ``InputError`` for what cannot be kept."""

    def refuse(what: str) -> InputError:
        return InputError(
            f"Cannot restore {name}: {what}.",
            hint="Expected gray, RGB or CMYK of 1 to 16 bits, or float32, with or without straight "
            "alpha.",
        )

    photometric, extra = page.photometric, tuple(page.extrasamples)
    from_jpeg = page.compression in {6, 7} and photometric == PHOTOMETRIC.YCBCR
    palette = photometric == PHOTOMETRIC.PALETTE
    inks = photometric == PHOTOMETRIC.SEPARATED and page.samplesperpixel == 4
    known = GRAY | {PHOTOMETRIC.RGB}
    if photometric not in known and not from_jpeg and not palette and not inks:
        kind = getattr(photometric, "name", photometric)
        raise refuse(f"its colours are {kind}")
    if extra not in {(), (1,), (2,)}:
        raise refuse("it has further channels whose meaning is unknown")
    if page.imagedepth != 1 or page.dtype not in (bool, np.uint8, np.uint16, np.float32):
        raise refuse(f"its values are {page.dtype}")
    if page.dtype in (np.uint8, np.uint16) and not isinstance(page.bitspersample, int):
        raise refuse(f"it has {page.bitspersample} bits per channel")
    return 4 if inks else 1 if photometric in GRAY or palette else 3


def _planes(
    name: str, page: tifffile.TiffPage, data: bytes
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Gray, RGB or CMYK in the type it is stored in, and straight alpha."""
    channels = _channels(name, page)
    extra = tuple(page.extrasamples)
    _refuse_missing_data(page, len(data))
    _refuse_other_sizes(name, page, data)
    values = page.asarray(maxworkers=1)
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        values = np.moveaxis(values, 0, -1)
    values = values.reshape(page.imagelength, page.imagewidth, channels + len(extra))
    if page.photometric == PHOTOMETRIC.PALETTE:
        alpha = values[..., 1] if extra else None
        return _coloured(page, values[..., 0]), alpha
    values = _whole_range(name, page, values)
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        light = ~values if values.dtype.kind == "u" else 1 - values
        values = np.concatenate([light[..., :1], values[..., 1:]], axis=-1)
    pixels = values[..., 0] if channels == 1 else values[..., :channels]
    alpha = values[..., channels] if extra else None
    if extra == (1,) and alpha is not None:
        most = np.iinfo(alpha.dtype).max if alpha.dtype.kind == "u" else 1
        if (alpha != most).any():
            raise InputError(
                f"Cannot restore {name}: its colours are premultiplied by its alpha.",
                hint="Save it with straight (unassociated) alpha.",
            )
    return pixels, alpha


def _coloured(page: tifffile.TiffPage, indices: NDArray[Any]) -> NDArray[Any]:
    """The colours of a palette: (H, W, 3) uint8, or uint16 where its colours need 16 bits.

    A map without a value above 255 was written by a program that took 255 for white, as libtiff
    and other readers also conclude.
    """
    colours = np.asarray(page.colormap)
    if colours.max(initial=0) > 255:
        if (colours % 257).any() and (colours % 256).any():
            return colours.astype(np.uint16).T[indices.astype(np.intp)]
        colours = np.rint(colours / 257)
    return colours.astype(np.uint8).T[indices.astype(np.intp)]


def _whole_range(name: str, page: tifffile.TiffPage, values: NDArray[Any]) -> NDArray[Any]:
    """``values`` with white at 255, 65535 or 1."""
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if values.dtype.kind == "f":
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= 1):  # also true for NaN
            raise InputError(
                f"Cannot restore {name}: its values go from {low:g} to {high:g}, expected 0 to 1.",
                hint="Scale them, and replace NaN and infinity.",
            )
        return values.astype(np.float32)
    white, most = np.iinfo(values.dtype).max, 2**page.bitspersample - 1
    if most == white:
        return values
    return np.rint(values * (white / most)).astype(values.dtype)


def _refuse_other_sizes(name: str, page: tifffile.TiffPage, data: bytes) -> None:
    """Refuse a strip or tile that says of itself that it is larger than the page lets it be."""
    for at, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        found = inner_size(data[at : at + size])
        if found is None:
            continue
        width, height = found
        rows, columns = page.rowsperstrip, page.imagewidth
        if page.is_tiled:
            rows, columns = page.tilelength, page.tilewidth
        if width > columns or height > rows:
            raise InputError(
                f"Cannot read {name}: a piece of {columns}×{rows} pixels says of itself that it "
                f"has {width}×{height}."
            )


def _refuse_missing_data(page: tifffile.TiffPage, size_bytes: int) -> None:
    """Tifffile would fill strips that are not there with zeros."""
    ends = [at + size for at, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if len(ends) != math.prod(page.chunked) or not all(page.databytecounts):
        raise ValueError("strips or tiles are missing")
    if max(ends) > size_bytes:
        raise ValueError("its data go beyond its end")


def _carried(page: tifffile.TiffPage, data: bytes) -> Carried:
    packet, icc_profile = page.tags.valueof(XMP), page.tags.valueof(ICC)
    block = ifd.block_of(data)
    values = {}
    for entry in block.first().entries if block else ():
        if block and entry.tag in {carry.IPTC_TAG, carry.PHOTOSHOP_TAG}:
            values[entry.tag] = block.value(entry)
    resources = values.get(carry.PHOTOSHOP_TAG)
    other = {}
    if resources and photoshop.has_thumbnail(resources):
        other = {carry.PHOTOSHOP_TAG: photoshop.without_thumbnail(resources)}
    exif, gap = ifd.copied(data, STRUCTURE, holds_note=True, other=other)
    return Carried(
        container="TIFF",
        exif=exif or None,
        exif_gap=gap,
        xmp=_bytes(packet) if packet else None,
        icc_profile=_bytes(icc_profile) if icc_profile else None,
        iptc=values.get(carry.IPTC_TAG),
        photoshop=resources,
        dpi=_dpi(page),
        bits=page.bitspersample if isinstance(page.bitspersample, int) else 0,
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
    exif = photo.carried.exif or b""
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
    offsets, sizes = _put_strips(body, planes, rows, photo.carried.exif_gap, order)
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
    carried = photo.carried
    blocks = {XMP: (1, carried.xmp), ICC: (7, carried.icc_profile)}
    if carried.container != "TIFF":  # else they stand in the block
        blocks |= {carry.IPTC_TAG: (7, carried.iptc), carry.PHOTOSHOP_TAG: (1, carried.photoshop)}
    for tag, (kind, value) in blocks.items():
        if value:
            add(tag, kind, len(value), value)
    body[4:8] = struct.pack(f"{order}I", len(body))
    body.extend(struct.pack(f"{order}H", len(entries)))
    body.extend(b"".join(entries[tag] for tag in sorted(entries)))
    body.extend(struct.pack(f"{order}I", 0))
    return bytes(body)


def _put_strips(
    body: bytearray, planes: NDArray[Any], rows: int, gap: tuple[int, int], order: Literal["<", ">"]
) -> tuple[list[int], list[int]]:
    """Compress strips of ``rows`` into ``body``, first where it has a gap; offsets and sizes."""
    offsets, sizes = [], []
    free, free_end = gap[0] + gap[0] % 2, gap[1]
    for top in range(0, planes.shape[0], rows):
        strip = planes[top : top + rows]
        if strip.dtype.kind != "f":  # predictor 2: differences along the row, modulo the type
            strip = np.concatenate([strip[:, :1], strip[:, 1:] - strip[:, :-1]], axis=1)
        coded = zlib.compress(strip.astype(strip.dtype.newbyteorder(order)).tobytes())
        sizes.append(len(coded))
        if free + len(coded) <= free_end:
            body[free : free + len(coded)] = coded
            offsets.append(free)
            free += len(coded) + len(coded) % 2
            continue
        body.extend(b"\0" * (len(body) % 2))
        offsets.append(len(body))
        body.extend(coded + b"\0" * (len(coded) % 2))
        if len(body) > 0xF000_0000:
            raise OutputError("TIFF cannot hold more than 4 GB.", hint="Choose a .png name.")
    return offsets, sizes


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
