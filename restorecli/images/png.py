"""PNG as chunks: what is not pixels is taken out as bytes and put back as bytes."""

from __future__ import annotations

import binascii
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from restorecli.images import photoshop
from restorecli.images.photo import Carried, Colours, Part, Pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = {"IHDR", "PLTE", "tRNS", "IDAT", "IEND", "acTL", "fcTL", "fdAT"}
GRAY, RGB, PALETTE = 0, 2, 3
XMP_KEY = b"XML:com.adobe.xmp"
RAW_PROFILE = re.compile(rb"Raw profile type (exif|APP1|xmp|iptc|8bim)\0")
LARGEST = 64 << 20  # bytes that a compressed profile or packet may have
# What goes on meaning the same with other pixels although its name says that it may not; unknown
# chunks are judged by their names, as PNG (section 14.1) has it.
LASTING = {"gAMA", "cHRM", "sRGB", "cICP", "mDCV", "cLLI", "iCCP", "sBIT", "bKGD", "sPLT",
           "pHYs", "oFFs", "pCAL", "sCAL", "sTER", "tIME", "tEXt", "zTXt", "iTXt", "eXIf",
           "mDCv", "cLLi"}  # fmt: skip
COLOUR_CHUNKS = {"gAMA", "cHRM", "sRGB", "cICP", "mDCV", "cLLI", "mDCv", "cLLi"}


@dataclass(frozen=True, slots=True)
class Header:
    """What IHDR says."""

    width: int
    height: int
    depth: int
    colour: int


def chunks(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each chunk up to IEND, whatever their checksums say."""
    at, name = len(SIGNATURE), ""
    while at + 12 <= len(data) and name != "IEND":
        (length,) = struct.unpack_from(">I", data, at)
        name = data[at + 4 : at + 8].decode("latin-1")
        yield name, data[at + 8 : at + 8 + length]
        at += 12 + length


def end_of(data: bytes) -> int:
    """Where the file should end, behind IEND; its length if that is missing."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"IEND":
            return at + 12 + length
        at += 12 + length
    return len(data)


def header(data: bytes) -> Header:
    """Raises ``ValueError`` unless ``data`` begins as a PNG must."""
    name, content = next(chunks(data), ("", b""))
    if name != "IHDR" or len(content) != 13:
        raise ValueError("its header is not in front")
    return Header(*struct.unpack_from(">IIBB", content))


def is_animated(data: bytes) -> int:
    """Frames of an APNG; 0 for a still picture."""
    for name, content in chunks(data):
        if name == "acTL" and len(content) >= 4:
            return int(struct.unpack_from(">I", content)[0])
        if name == "IDAT":
            break
    return 0


def bare(data: bytes) -> bytes:
    """The PNG with what decoding needs; checksums of that stay as they are."""
    needed = {"IHDR", "PLTE", "tRNS", "IDAT"}
    if header(data).colour != PALETTE:
        needed -= {"tRNS", "PLTE"}
    body, at, ended = [SIGNATURE], len(SIGNATURE), False
    while at + 12 <= len(data) and not ended:
        (length,) = struct.unpack_from(">I", data, at)
        name = data[at + 4 : at + 8].decode("latin-1")
        if name in needed:
            body.append(data[at : at + 12 + length])
        ended = name == "IEND"
        at += 12 + length
    if ended:
        body.append(packed("IEND", b""))
    return b"".join(body)


def transparent(data: bytes, planes: Pixels) -> Pixels | None:
    """Alpha of (H, W[, 3]) planes of which ``tRNS`` makes one value transparent."""
    head = header(data)
    value = next((content for name, content in chunks(data) if name == "tRNS"), None)
    if value is None or head.colour not in {GRAY, RGB} or len(value) < 2 + 4 * (head.colour == RGB):
        return None
    stored = np.array(struct.unpack_from(">3H" if head.colour == RGB else ">H", value))
    if head.depth < 8:  # pixels are scaled to 8 bits, the value is not
        stored = stored * (255 // (2**head.depth - 1))
    elif head.depth == 8:
        stored = stored & 255
    hidden = planes == stored if head.colour == GRAY else (planes == stored).all(axis=-1)
    return np.where(hidden, 0, np.iinfo(planes.dtype).max).astype(planes.dtype)


def carried(data: bytes) -> tuple[Carried, tuple[str, ...]]:
    """Everything beside pixels, as it stands in the file, and notes on what does not."""
    found: dict[str, bytes] = {}
    parts, notes, is_behind = [], [], False
    head = header(data)
    for name, content in chunks(data):
        is_behind |= name == "IDAT"
        if name == "iCCP":
            title, _, packed_profile = content.partition(b"\0")
            profile = inflated(packed_profile[1:])
            if profile:
                found.setdefault("icc", profile)
                found.setdefault("icc_name", title)
            else:
                notes.append("its colour profile is damaged and not kept")
        elif name == "eXIf":
            found.setdefault("exif", content.removeprefix(b"Exif\0\0"))
        elif name == "iTXt" and content.startswith(XMP_KEY + b"\0"):
            found.setdefault("xmp", _international(content))
        elif name in {"tEXt", "zTXt", "iTXt"} and (raw := RAW_PROFILE.match(content)):
            kind, value = _raw_profile(raw.group(1), name, content)
            found.setdefault(kind, value)
            if kind == "broken":
                parts.append(Part(name, content, is_behind))
        elif name == "PLTE" and head.colour == RGB:
            parts.append(Part(name, content))
        elif name not in PIXELS:
            parts.append(Part(name, content, is_behind))
    if behind := len(data) - end_of(data):
        notes.append(f"{behind:,} bytes behind the end of the PNG are not kept")
    parts, more = _fitting(parts, data, head)
    named = {part.name: part.data for part in parts}
    comments = [p.data[8:] for p in parts if p.name == "tEXt" and p.data.startswith(b"Comment\0")]
    return Carried(
        container="PNG",
        exif=found.get("exif"),
        xmp=found.get("xmp") or None,
        icc_profile=found.get("icc"),
        icc_name=found.get("icc_name", b"ICC Profile"),
        iptc=found.get("iptc"),
        photoshop=found.get("8bim"),
        colours=Colours(*named["cICP"][:4]) if len(named.get("cICP", b"")) == 4 else None,
        comment=comments[0] if comments else None,
        dpi=_dpi(named.get("pHYs", b"")),
        parts=tuple(parts),
        bits=head.depth,
    ), (*notes, *more)


def _fitting(parts: list[Part], data: bytes, head: Header) -> tuple[list[Part], list[str]]:
    """``parts`` in the form that the result needs: a palette has become RGB."""
    palette = next((content for name, content in chunks(data) if name == "PLTE"), b"")
    kept, notes = [], []
    for part in parts:
        value: bytes | None = part.data
        if part.name == "bKGD" and head.colour == PALETTE and value:
            colour = palette[3 * value[0] : 3 * value[0] + 3]
            value = struct.pack(">3H", *colour) if len(colour) == 3 else None
        elif part.name == "bKGD" and head.colour == GRAY and head.depth < 8 and value:
            scale = 255 // (2**head.depth - 1)
            value = struct.pack(">H", min(scale * int.from_bytes(value[:2], "big"), 255))
        elif part.name == "hIST" or (part.name == "sBIT" and not _keeps_sbit(head)):
            value = None
        elif part.name not in LASTING | {"PLTE"} and part.name[3:4].isupper():
            value = None  # says of itself that it belongs to these very pixels
        if value is None:
            notes.append(f"PNG chunk {part.name}, which describes the pixels as they were, "
                         "is not kept")  # fmt: skip
        else:
            kept.append(Part(part.name, value, part.behind))
    return kept, notes


def _keeps_sbit(head: Header) -> bool:
    return head.depth >= 8 or head.colour == PALETTE


def inflated(data: bytes) -> bytes | None:
    """What zlib packed, unless it is broken or has more than `LARGEST` bytes."""
    engine = zlib.decompressobj()
    try:
        value = engine.decompress(data, LARGEST)
    except zlib.error:
        return None
    return value if engine.eof else None


def _international(content: bytes) -> bytes:
    """Text of an iTXt chunk."""
    _, _, rest = content.partition(b"\0")
    is_packed = rest[:1] == b"\1"
    text = rest[2:].split(b"\0", 2)[-1]
    return (inflated(text) or b"") if is_packed else text


def _raw_profile(kind: bytes, name: str, content: bytes) -> tuple[str, bytes]:
    """EXIF, XMP or IPTC as ImageMagick writes them: hexadecimal text."""
    _, _, rest = content.partition(b"\0")
    text = _international(content) if name == "iTXt" else rest
    if name == "zTXt":
        text = inflated(rest[1:]) or b""
    lines = text.strip().split(b"\n", 2)
    try:
        value = binascii.unhexlify(b"".join(lines[2].split())) if len(lines) > 2 else b""
    except binascii.Error:
        return "broken", content
    if kind == b"APP1" and value.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
        return "xmp", value[29:]
    if kind in {b"exif", b"APP1"}:
        return "exif", value.removeprefix(b"Exif\0\0")
    if kind == b"xmp" or value.startswith(b"\x1c"):
        return ("xmp" if kind == b"xmp" else "iptc"), value
    return "8bim", value.removeprefix(b"Photoshop 3.0\0")


def _dpi(content: bytes) -> tuple[float, float] | None:
    if len(content) != 9:
        return None
    across, down, unit = struct.unpack(">IIB", content)
    return (across * 0.0254, down * 0.0254) if unit == 1 else None


def packed(name: str, content: bytes) -> bytes:
    """A chunk as it stands in a file."""
    kind = name.encode("latin-1")
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def with_parts(data: bytes, carried: Carried) -> bytes:
    """The PNG in ``data``, as an encoder wrote it, with everything that is carried."""
    made = [chunk for chunk in chunks(data) if chunk[0] in {"IHDR", "IDAT"}]
    first = []
    named = {part.name for part in carried.parts}
    if (
        carried.colours
        and not carried.icc_profile
        and 2 not in carried.colours[:2]
        and ("cICP" not in named)
    ):
        primaries, transfer, _, full_range = carried.colours
        first.append(("cICP", bytes([primaries, transfer, 0, full_range])))
    if carried.icc_profile:
        profile = carried.icc_name + b"\0\0" + zlib.compress(carried.icc_profile)
        first.append(("iCCP", profile))
    first += [(p.name, p.data) for p in carried.parts if not p.behind and p.name != "PLTE"]
    if palette := [(p.name, p.data) for p in carried.parts if p.name == "PLTE"]:
        late = [c for c in first if c[0] in {"bKGD", "hIST"}]
        first = [c for c in first if c not in late] + palette + late
    if carried.exif:
        first.append(("eXIf", carried.exif))
    if carried.xmp:
        first.append(("iTXt", XMP_KEY + b"\0" * 5 + carried.xmp))
    resources = photoshop.with_iptc(carried.photoshop or b"", carried.iptc or b"")
    if resources:
        first.append(("zTXt", _hexadecimal(b"8bim", resources)))
    if carried.comment and not any(p.data.startswith(b"Comment\0") for p in carried.parts):
        first.append(_comment(carried.comment))
    if carried.dpi and "pHYs" not in named:
        across, down = (round(dpi / 0.0254) for dpi in carried.dpi)
        first.append(("pHYs", struct.pack(">IIB", across, down, 1)))
    behind = [(p.name, p.data) for p in carried.parts if p.behind]
    ordered = [made[0], *first, *made[1:], *behind, ("IEND", b"")]
    return SIGNATURE + b"".join(packed(*chunk) for chunk in ordered)


def _comment(text: bytes) -> tuple[str, bytes]:
    """As UTF-8 if that is what it is, else as PNG's Latin-1; never coded again."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return "tEXt", b"Comment\0" + text
    return "iTXt", b"Comment\0\0\0\0\0" + text


def _hexadecimal(kind: bytes, value: bytes) -> bytes:
    lines = binascii.hexlify(value)
    rows = b"\n".join(lines[at : at + 72] for at in range(0, len(lines), 72))
    text = b"\n" + kind + b"\n%8d\n" % len(value) + rows + b"\n"
    return b"Raw profile type " + kind + b"\0\0" + zlib.compress(text)
