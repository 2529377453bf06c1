"""EXIF and XMP: orientation reset in place, so that every other byte stays, and what is private."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restorecli.images.photo import Carried

Keep = Literal["keep", "safe", "none"]
ORIENTATION_TAG = 0x0112
EXIF_HEADER = b"Exif\x00\x00"
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
# Owner, serial numbers of body and lens, unique id; makers put serial numbers into their notes.
PRIVATE_TAGS = {0xA430, 0xA431, 0xA435, 0xA420, 0x927C, 0xC62F}
COLOUR_CHUNKS = {b"gAMA", b"cHRM", b"sRGB", b"cICP"}
XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|\s*>\s*))[2-8](?=\s*[\"'<])")


def upright(planes: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W, …) as EXIF ``orientation`` 1…8 means it to be seen."""
    if orientation in {5, 6, 7, 8}:
        planes = np.swapaxes(planes, 0, 1)
    if orientation in {3, 4, 7, 8}:
        planes = planes[::-1]
    if orientation in {2, 3, 6, 7}:
        planes = planes[:, ::-1]
    return np.ascontiguousarray(planes)


def exif_upright(exif: bytes) -> bytes:
    """``exif`` with orientation 1 in its first directory; the bytes themselves if it has none.

    Broken EXIF comes back unchanged: it is somebody's data, and nothing here depends on it.
    """
    start = len(EXIF_HEADER) if exif.startswith(EXIF_HEADER) else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[start : start + 2])
    if order is None:
        return exif
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, start + 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start + directory)
        for i in range(count):
            entry = start + directory + 2 + 12 * i
            (tag,) = struct.unpack_from(f"{order}H", exif, entry)
            if tag == ORIENTATION_TAG:
                reset = struct.pack(f"{order}HI", 3, 1) + struct.pack(f"{order}HH", 1, 0)
                return exif[: entry + 2] + reset + exif[entry + 12 :]
    except struct.error:
        pass  # truncated EXIF: nothing to reset
    return exif


def xmp_upright(xmp: bytes) -> bytes:
    """``xmp`` with ``tiff:Orientation`` 1, if it has one; the length stays."""
    return XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def reduced(carried: Carried, keep: Keep) -> Carried:
    """What is left of the metadata under ``--metadata``.

    ``safe`` drops the place, the owner, serial numbers, and whatever could repeat them: XMP, IPTC,
    comments, makers' notes, the thumbnail. ``none`` drops all but what colours mean.
    """
    if keep == "keep":
        return carried
    bare = replace(
        carried,
        exif=_public(carried.exif) if carried.exif and keep == "safe" else None,
        xmp=None,
        jpeg_segments=b"",
        jpeg_comment=None,
        png_chunks=tuple(c for c in carried.png_chunks if c[0] in COLOUR_CHUNKS),
    )
    return bare if keep == "safe" else replace(bare, dpi=None)


def _public(exif: bytes) -> bytes | None:
    try:
        tags = Image.Exif()
        tags.load(exif)
        inner = tags.get_ifd(EXIF_IFD)
        for tag in PRIVATE_TAGS:
            tags.pop(tag, None)
            inner.pop(tag, None)
        tags.pop(GPS_IFD, None)
        tags._ifds.pop(GPS_IFD, None)
        return tags.tobytes()
    except Exception:  # broken EXIF, which Pillow reports in many ways: what it holds is unknown
        return None
