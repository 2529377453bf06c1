"""WebP as RIFF chunks."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from restorecli.images.photo import Carried, Part

PIXELS = {"VP8 ", "VP8L", "ALPH", "VP8X", "ANIM", "ANMF"}
ICC_FLAG, ALPHA_FLAG, EXIF_FLAG, XMP_FLAG = 0x20, 0x10, 0x08, 0x04


def chunks(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each chunk."""
    at, end = 12, end_of(data)
    while at + 8 <= end:
        name, size = data[at : at + 4].decode("latin-1"), struct.unpack_from("<I", data, at + 4)[0]
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def end_of(data: bytes) -> int:
    """Where the file ends by its own account; what follows is not part of it."""
    (size,) = struct.unpack_from("<I", data, 4)
    return min(8 + size + size % 2, len(data))


def carried(data: bytes) -> Carried:
    """Everything beside pixels; orientation is as it was."""
    found: dict[str, bytes] = {}
    parts = []
    for name, content in chunks(data):
        if name in {"EXIF", "XMP ", "ICCP"}:
            found.setdefault(name, content)
        elif name not in PIXELS:
            parts.append(Part(name, content))
    return Carried(
        container="WEBP",
        exif=found.get("EXIF", b"").removeprefix(b"Exif\0\0") or None,
        xmp=found.get("XMP ") or None,
        icc_profile=found.get("ICCP") or None,
        parts=tuple(parts),
        lossless=any(name == "VP8L" for name, _ in chunks(data)),
        bits=8,
    )


def size_of(data: bytes) -> tuple[int, int] | None:
    """(width, height) that the first frame in ``data`` says of itself."""
    for name, content in chunks(data):
        if name == "VP8L" and len(content) >= 5:
            (bits,) = struct.unpack_from("<I", content, 1)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        if name == "VP8 " and len(content) >= 10:
            width, height = struct.unpack_from("<HH", content, 6)
            return width & 0x3FFF, height & 0x3FFF
    return None


def with_parts(data: bytes, carried: Carried, size: tuple[int, int]) -> bytes:
    """The WebP in ``data``, of ``size`` (height, width), with everything that is carried."""
    made = [chunk for chunk in chunks(data) if chunk[0] in {"VP8 ", "VP8L", "ALPH"}]
    flags = next((content[0] & ALPHA_FLAG for name, content in chunks(data) if name == "VP8X"), 0)
    for name, content in made:
        if name == "VP8L" and content[4] >> 4 & 1:
            flags |= ALPHA_FLAG
    before = [("ICCP", carried.icc_profile)] if carried.icc_profile else []
    after = [("EXIF", carried.exif)] if carried.exif else []
    after += [("XMP ", carried.xmp)] if carried.xmp else []
    for name, flag in (("ICCP", ICC_FLAG), ("EXIF", EXIF_FLAG), ("XMP ", XMP_FLAG)):
        flags |= flag if any(name == there for there, _ in [*before, *after]) else 0
    after += [(part.name, part.data) for part in carried.parts]
    if not before and not after:
        return data
    height, width = size
    head = struct.pack("<I", flags) + (width - 1).to_bytes(3, "little")
    head += (height - 1).to_bytes(3, "little")
    body = b"".join(_packed(*chunk) for chunk in [("VP8X", head), *before, *made, *after])
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _packed(name: str, content: bytes) -> bytes:
    size = struct.pack("<I", len(content))
    return name.encode("latin-1") + size + content + b"\0" * (len(content) % 2)
