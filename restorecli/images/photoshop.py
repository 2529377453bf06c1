"""Photoshop's image resources and IPTC in them, as bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

IPTC, OLD_THUMBNAIL, THUMBNAIL = 0x0404, 0x0409, 0x040C
DIGEST = 0x0425
RECORD = 0x1C  # first byte of every record of IPTC


def resources(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, content, and the whole resource as it stands in ``data``."""
    at = 0
    while data[at : at + 4] in {b"8BIM", b"PHUT", b"DCSR", b"AgHg", b"MeSa"} and at + 12 <= len(
        data
    ):
        name = 1 + data[at + 6]
        start = at + 6 + name + name % 2
        if start + 4 > len(data):
            return
        (number,), (size,) = (
            struct.unpack_from(">H", data, at + 4),
            struct.unpack_from(">I", data, start),
        )
        end = start + 4 + size + size % 2
        if start + 4 + size > len(data):
            return
        yield number, data[start + 4 : start + 4 + size], data[at:end]
        at = end


def iptc_in(data: bytes) -> bytes | None:
    """The records of IPTC among the resources."""
    return next((content for number, content, _ in resources(data) if number == IPTC), None)


def has_thumbnail(data: bytes) -> bool:
    """Whether a small picture is among the resources."""
    return any(number in {OLD_THUMBNAIL, THUMBNAIL} for number, _, _ in resources(data))


def without_thumbnail(data: bytes) -> bytes:
    """The resources less the small picture; the same bytes if there is none."""
    if not has_thumbnail(data):
        return data
    kept = (whole for n, _, whole in resources(data) if n not in {OLD_THUMBNAIL, THUMBNAIL})
    return b"".join(kept)


def with_iptc(data: bytes, records: bytes) -> bytes:
    """The resources, with ``records`` added unless they have their own."""
    if not records or iptc_in(data) is not None:
        return data
    head = b"8BIM" + struct.pack(">HHI", IPTC, 0, len(records))
    return data + head + records + b"\0" * (len(records) % 2)


def in_file_order(records: bytes) -> bytes:
    """IPTC as bytes, although TIFF's type LONG may have made a writer swap them by fours."""
    if records[:1] == bytes([RECORD]) or records[3:4] != bytes([RECORD]) or len(records) % 4:
        return records
    words = struct.unpack(f"<{len(records) // 4}I", records)
    return struct.pack(f">{len(words)}I", *words)
