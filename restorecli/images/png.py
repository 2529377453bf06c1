"""PNG's own chunks: those that Pillow and imagecodecs do not carry are copied as they are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from restorecli.images.metadata import COLOUR_CHUNKS, EXIF_HEADER
from restorecli.images.photo import Carried

SIGNATURE_AND_IHDR = 8 + 25
BIT_DEPTH_AT = 24
XMP_KEY = b"XML:com.adobe.xmp"
COPIED = COLOUR_CHUNKS | {b"pHYs", b"tEXt", b"zTXt", b"iTXt"}
# EXIF and XMP as text, written by some tools: they are carried as what they are.
REWRITTEN = (XMP_KEY, b"Raw profile type exif", b"Raw profile type APP1", b"Raw profile type xmp")


def is_deep(data: bytes) -> bool:
    """Whether the PNG in ``data`` has 16 bits per channel."""
    return data[BIT_DEPTH_AT] == 16


def copied_chunks(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Text, resolution and colour chunks of a PNG that decodes."""
    return tuple(
        (kind, content)
        for kind, content in _chunks(data)
        if kind in COPIED and content.partition(b"\0")[0] not in REWRITTEN
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def with_chunks(data: bytes, carried: Carried) -> bytes:
    """The PNG in ``data`` with everything that is carried, right behind its header."""
    chunks = list(carried.png_chunks)
    if carried.icc_profile:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(carried.icc_profile)))
    if carried.exif:
        chunks.append((b"eXIf", carried.exif.removeprefix(EXIF_HEADER)))
    if carried.xmp:
        chunks.append((b"iTXt", XMP_KEY + b"\0" * 5 + carried.xmp))
    if carried.dpi and not any(kind == b"pHYs" for kind, _ in chunks):
        across, down = (round(dpi / 0.0254) for dpi in carried.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    inserted = b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return data[:SIGNATURE_AND_IHDR] + inserted + data[SIGNATURE_AND_IHDR:]
