"""Orientation tags: reset in place, so that every other byte of EXIF and XMP stays."""

from __future__ import annotations

import re
import struct

ORIENTATION_TAG = 0x0112
EXIF_HEADER = b"Exif\x00\x00"
XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|\s*>\s*))[2-8](?=\s*[\"'<])")


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
                upright = struct.pack(f"{order}HI", 3, 1) + struct.pack(f"{order}HH", 1, 0)
                return exif[: entry + 2] + upright + exif[entry + 12 :]
    except struct.error:
        pass  # truncated EXIF: nothing to reset
    return exif


def xmp_upright(xmp: bytes) -> bytes:
    """``xmp`` with ``tiff:Orientation`` 1, if it has one; the length stays."""
    return XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
