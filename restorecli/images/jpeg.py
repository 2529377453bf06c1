"""JPEG as segments: what is not pixels is taken out as bytes and put back as bytes."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from restorecli.images.photo import Carried, Part

SOI, EOI, SOS, DHT, DQT, DRI, COM = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD, 0xFE
FRAMES = {*range(0xC0, 0xD0), 0xF7} - {DHT, 0xC8, 0xCC}  # SOF0…SOF15, and that of JPEG-LS
DECODING = FRAMES | {DHT, DQT, DRI, SOS, 0xCC, 0xDC, 0xF8}
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
LONG_XMP = b"http://ns.adobe.com/xmp/extension/\0"
ICC, PHOTOSHOP, ADOBE, MPF = b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"Adobe", b"MPF\0"
LONGEST = 65_533  # bytes that a segment can hold
LONG_PIECE = 65_000
SHORT_PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="NAME"/></rdf:RDF>'
    b"</x:xmpmeta>"
)
DENSITY_UNITS = {1: 1.0, 2: 2.54}
NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # not stuffed, not a restart


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What the start of frame says."""

    marker: int
    bits: int
    height: int
    width: int
    components: tuple[tuple[int, int, int, int], ...]  # (id, across, down, table)

    @property
    def kind(self) -> str:
        """Its real name."""
        if self.marker == 0xF7:
            return "JPEG-LS"
        if self.marker in {0xC3, 0xC7, 0xCB, 0xCF}:
            return "lossless JPEG"
        if self.marker in {0xC5, 0xC6, 0xCD, 0xCE}:
            return "hierarchical JPEG"
        return "JPEG" if self.bits == 8 else f"{self.bits}-bit JPEG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """A JPEG taken apart."""

    before: list[tuple[int, bytes]]  # (marker, content) in front of the pixels
    frame: Frame | None
    pixels: bytes  # from the first scan to the end of the picture
    behind: bytes  # what follows


def apart(data: bytes) -> Segments:
    """Take a JPEG apart; stray bytes between segments are skipped, as decoders do."""
    before: list[tuple[int, bytes]] = []
    frame, at = None, 2
    while (found := NEXT_MARKER.search(data, at)) is not None:
        marker, at = data[found.end() - 1], found.end()
        if marker in {SOI, 0x01}:
            continue
        if marker == EOI:
            return Segments(before=before, frame=frame, pixels=b"", behind=data[at:])
        if marker == SOS:
            start = found.end() - 2
            end = _end_of_picture(data, start)
            return Segments(before=before, frame=frame, pixels=data[start:end], behind=data[end:])
        if at + 2 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, at)
        content = data[at + 2 : at + max(length, 2)]
        before.append((marker, content))
        if marker in FRAMES and frame is None:
            frame = _frame(marker, content)
        at += max(length, 2)
    return Segments(before=before, frame=frame, pixels=b"", behind=b"")


def _end_of_picture(data: bytes, at: int) -> int:
    """Where the picture whose first scan stands at ``at`` ends, or all of ``data``."""
    while (found := NEXT_MARKER.search(data, at)) is not None:
        marker, at = data[found.end() - 1], found.end()
        if marker == EOI:
            return at
        if marker in DECODING and at + 2 <= len(data):
            at += max(struct.unpack_from(">H", data, at)[0], 2)
    return len(data)


def _frame(marker: int, content: bytes) -> Frame | None:
    if len(content) < 6:
        return None
    bits, height, width, count = struct.unpack_from(">BHHB", content)
    listed = [content[at : at + 3] for at in range(6, 6 + 3 * count, 3)]
    parts = tuple((c[0], c[1] >> 4, c[1] & 15, c[2]) for c in listed if len(c) == 3)
    return Frame(marker=marker, bits=bits, height=height, width=width, components=parts)


def among_scans(pixels: bytes) -> int:
    """How many comments and segments of applications stand between the scans."""
    found = (match.group()[-1] for match in NEXT_MARKER.finditer(pixels))
    return sum(marker == COM or 0xE0 <= marker <= 0xEF for marker in found)


def size_of(data: bytes) -> tuple[int, int] | None:
    """(width, height) that the JPEG in ``data`` says of itself."""
    frame = apart(data[:2] + data[2 : 2 + (1 << 20)]).frame
    return (frame.width, frame.height) if frame else None


def natural(table: tuple[int, ...]) -> list[int]:
    """A table in rows of eight instead of the zigzag of files."""
    order = sorted(
        range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8)
    )
    placed = [0] * 64
    for value, at in zip(table, order, strict=True):
        placed[at] = min(value, 255)
    return placed


def bare(segments: Segments) -> bytes:
    """The JPEG with what decoding needs, and nothing else."""
    kept = [(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")] if _is_jfif(segments) else []
    for marker, content in segments.before:
        if marker in DECODING or (marker == 0xEE and content.startswith(ADOBE)):
            kept.append((marker, content))
    return b"\xff\xd8" + b"".join(packed(*segment) for segment in kept) + segments.pixels


def _is_jfif(segments: Segments) -> bool:
    return any(m == 0xE0 and c.startswith(b"JFIF\0") for m, c in segments.before)


def packed(marker: int, content: bytes) -> bytes:
    """A segment as it stands in a file."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def tables(segments: Segments) -> tuple[tuple[int, ...], ...]:
    """The quantisation table of each component, in the order of the file's zigzag."""
    known: dict[int, tuple[int, ...]] = {}
    for marker, content in segments.before:
        at = 0
        while marker == DQT and at < len(content):
            wide, number = content[at] >> 4, content[at] & 15
            form = ">64H" if wide else ">64B"
            if at + 1 + struct.calcsize(form) > len(content):
                break
            known[number] = struct.unpack_from(form, content, at + 1)
            at += 1 + struct.calcsize(form)
    used = [component[3] for component in segments.frame.components] if segments.frame else []
    return tuple(known[table] for table in used) if all(t in known for t in used) else ()


def carried(segments: Segments) -> Carried:
    """Everything beside pixels in front of them; orientation is as it was."""
    found: dict[str, list[bytes]] = {"exif": [], "xmp": [], "icc": [], "photoshop": []}
    parts, dpi = [], None
    for marker, content in segments.before:
        if marker in DECODING or not (marker == COM or 0xE0 <= marker <= 0xEF):
            continue
        if marker == 0xE1 and content.startswith(EXIF) and _goes_on(content, found["exif"]):
            found["exif"].append(content[len(EXIF) :])
        elif marker == 0xE1 and content.startswith(XMP) and not found["xmp"]:
            found["xmp"].append(content[len(XMP) :])
        elif marker == 0xE2 and content.startswith(ICC):
            found["icc"].append(content[len(ICC) :])
        elif marker == 0xED and content.startswith(PHOTOSHOP):
            found["photoshop"].append(content[len(PHOTOSHOP) :])
        else:
            if marker == 0xE0 and content.startswith(b"JFIF\0"):
                dpi = dpi or _density(content)
            parts.append(Part("COM" if marker == COM else f"APP{marker - 0xE0}", content))
    comments = [part.data for part in parts if part.name == "COM"]
    pieces = sorted(p for p in found["icc"] if len(p) > 2)  # each begins with its number
    return Carried(
        container="JPEG",
        exif=b"".join(found["exif"]) or None,
        xmp=found["xmp"][0] if found["xmp"] else None,
        icc_profile=b"".join(piece[2:] for piece in pieces) or None,
        photoshop=b"".join(found["photoshop"]) or None,
        comment=comments[0] if comments else None,
        dpi=dpi,
        parts=tuple(parts),
        jpeg_tables=tables(segments),
        jpeg_sampling=tuple(c[1:3] for c in segments.frame.components) if segments.frame else (),
        bits=segments.frame.bits if segments.frame else 0,
    )


def _goes_on(content: bytes, exif: list[bytes]) -> bool:
    """Whether an EXIF segment is the first one, or holds more of what did not fit into that."""
    return not exif or content[len(EXIF) : len(EXIF) + 2] not in {b"II", b"MM"}


def _density(jfif: bytes) -> tuple[float, float] | None:
    if len(jfif) < 12:
        return None
    unit, across, down = struct.unpack_from(">BHH", jfif, 7)
    scale = DENSITY_UNITS.get(unit)
    return (across * scale, down * scale) if scale and across and down else None


def pictures_behind(behind: bytes) -> tuple[list[bytes], bytes]:
    """The whole JPEGs that follow, and the rest behind them: a clip, or what a maker adds."""
    pictures = []
    while (further := behind.lstrip(b"\0")).startswith(b"\xff\xd8\xff"):
        scan = apart(further)
        if not scan.pixels:
            break
        pictures.append(further[: len(further) - len(scan.behind)])
        behind = scan.behind
    return pictures, behind if behind.strip(b"\0") else b""


def with_parts(data: bytes, carried: Carried) -> bytes:
    """The JPEG in ``data``, as an encoder wrote it, with everything that is carried."""
    made = apart(data)
    jfif = [p.data for p in carried.parts if p.name == "APP0" and p.data.startswith(b"JFIF\0")]
    first = [(0xE0, jfif[0] if jfif else _jfif(carried.dpi))]
    if carried.exif:
        pieces = _pieces(carried.exif, LONGEST - len(EXIF))
        first += [(0xE1, EXIF + piece) for piece in pieces]
    if carried.xmp:
        first += _xmp_segments(carried.xmp)
    first += _icc_segments(carried.icc_profile or b"")
    first += [(0xED, PHOTOSHOP + piece) for piece in _pieces(carried.photoshop or b"", 60_000)]
    others = [
        (COM if part.name == "COM" else 0xE0 + int(part.name[3:]), part.data)
        for part in carried.parts
        if part.data not in jfif
    ]
    if carried.comment and not any(marker == COM for marker, _ in others):
        others.append((COM, carried.comment[:LONGEST]))
    needed = [segment for segment in made.before if segment[0] in DECODING]
    body = b"".join(packed(*segment) for segment in [*first, *others, *needed])
    return b"\xff\xd8" + body + made.pixels + carried.trailer


def _jfif(dpi: tuple[float, float] | None) -> bytes:
    across, down = (min(max(round(value), 1), 65_535) for value in dpi or (1, 1))
    return b"JFIF\0\1\1" + struct.pack(">BHHBB", 1 if dpi else 0, across, down, 0, 0)


def _xmp_segments(packet: bytes) -> list[tuple[int, bytes]]:
    """One segment; of a longer packet one that refers to the segments that hold it."""
    if len(packet) <= LONGEST - len(XMP):
        return [(0xE1, XMP + packet)]
    name = hashlib.md5(packet, usedforsecurity=False).hexdigest().upper().encode()
    head = LONG_XMP + name + struct.pack(">I", len(packet))
    found = [(0xE1, XMP + SHORT_PACKET.replace(b"NAME", name))]
    for at in range(0, len(packet), LONG_PIECE):
        piece = packet[at : at + LONG_PIECE]
        found.append((0xE1, head + struct.pack(">I", at) + piece))
    return found


def long_xmp(pieces: Sequence[bytes]) -> bytes | None:
    """The second packet of XMP, whose segments are ``pieces``; ``None`` if it is incomplete."""
    packet, start = b"", len(LONG_XMP)
    for piece in sorted(pieces, key=lambda one: one[start + 36 : start + 40]):
        if len(piece) < start + 40 or int.from_bytes(piece[start + 36 : start + 40], "big") != len(
            packet
        ):
            return None
        packet += piece[start + 40 :]
    size = int.from_bytes(pieces[0][start + 32 : start + 36], "big") if pieces else 0
    return packet if packet and len(packet) == size else None


def _icc_segments(profile: bytes) -> list[tuple[int, bytes]]:
    pieces = list(_pieces(profile, 65_000))
    return [(0xE2, ICC + bytes([i + 1, len(pieces)]) + p) for i, p in enumerate(pieces)]


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]
