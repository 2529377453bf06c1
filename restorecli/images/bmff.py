"""AVIF and HEIC as boxes and items: what is not pixels is taken out and put back as bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from restorecli.images.photo import Carried, Colours, Part

XMP_TYPE = b"application/rdf+xml"
# Properties that say how pixels are coded or lie; all others are kept.
STRUCTURE = {"ispe", "pixi", "av1C", "hvcC", "auxC", "irot", "imir", "clap", "a1op", "a1lx", "lsel",
             "colr", "rloc", "iscl", "rref", "crtt", "mdft"}  # fmt: skip
MOST_BOXES = 10_000
GAIN_MAPS = (
    b"urn:com:apple:photo:2020:aux:hdrgainmap",
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:gain",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item of a file, such as a picture, a tile or EXIF."""

    id: int
    kind: str
    content_type: bytes = b""  # of a ``mime`` or ``uri `` item, with what follows it
    data: bytes = b""
    properties: tuple[tuple[str, bytes], ...] = ()

    def property(self, name: str) -> bytes | None:
        """Content of the first property called ``name``."""
        return next((content for kind, content in self.properties if kind == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """All items of a file."""

    primary: int
    items: dict[int, Item]
    references: tuple[tuple[str, int, tuple[int, ...]], ...] = ()

    @property
    def picture(self) -> Item | None:
        """The one to show."""
        return self.items.get(self.primary)

    def to(self, kind: str, item_id: int) -> list[Item]:
        """The items that refer to ``item_id`` by ``kind``."""
        found = (self.items.get(a) for k, a, b in self.references if k == kind and item_id in b)
        return [item for item in found if item is not None]


def boxes(data: bytes, at: int = 0, end: int | None = None) -> Iterator[tuple[str, int, int]]:
    """Name of each box, and where its content begins and ends."""
    end = len(data) if end is None else end
    for _ in range(MOST_BOXES):
        if at + 8 > end:
            return
        size, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1 and at + 16 <= end:
            (size,), head = struct.unpack_from(">Q", data, at + 8), 16
        if size == 0:
            size = end - at
        if size < head or at + size > end:
            return
        yield name.decode("latin-1"), at + head, at + size
        at += size


def items(data: bytes) -> Items:
    """All items of the file in ``data``; raises ``ValueError`` or ``struct.error`` if broken."""
    meta = next(((a, b) for name, a, b in boxes(data) if name == "meta"), None)
    if meta is None:
        return Items(primary=0, items={})
    inner = {name: (a, b) for name, a, b in boxes(data, meta[0] + 4, meta[1])}
    at, _ = inner.get("pitm", (0, 0))
    primary = struct.unpack_from(">I" if at and data[at] else ">H", data, at + 4)[0] if at else 0
    kinds = dict(_kinds(data, *inner["iinf"])) if "iinf" in inner else {}
    places = _places(data, *inner["iloc"]) if "iloc" in inner else {}
    properties = _properties(data, *inner["iprp"]) if "iprp" in inner else {}
    idat = data[slice(*inner["idat"])] if "idat" in inner else b""
    found = {}
    for number, (kind, content_type) in kinds.items():
        construction, extents = places.get(number, (0, []))
        source = idat if construction == 1 else data
        content = b"".join(source[a : a + n] if n else source[a:] for a, n in extents)
        if construction == 2:
            content = b""
        found[number] = Item(
            id=number, kind=kind, content_type=content_type, data=content,
            properties=tuple(properties.get(number, ())),
        )  # fmt: skip
    references = tuple(_references(data, *inner["iref"])) if "iref" in inner else ()
    return Items(primary=primary, items=found, references=references)


def _kinds(data: bytes, at: int, end: int) -> Iterator[tuple[int, tuple[str, bytes]]]:
    first = at + (8 if data[at] else 6)
    for name, start, stop in boxes(data, first, end):
        if name != "infe" or data[start] < 2:
            continue
        wide = data[start] > 2
        (number,) = struct.unpack_from(">I" if wide else ">H", data, start + 4)
        where = start + 4 + (4 if wide else 2) + 2
        kind = data[where : where + 4].decode("latin-1")
        rest = data[where + 4 : stop].partition(b"\0")[2]
        yield number, (kind, rest if kind in {"mime", "uri "} else b"")


def _places(data: bytes, at: int, end: int) -> dict[int, tuple[int, list[tuple[int, int]]]]:
    version = data[at]
    sizes = struct.unpack_from(">H", data, at + 4)[0]
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    at += 6

    def number(size: int) -> int:
        nonlocal at
        if at + size > end:
            raise ValueError("its table of items is cut off")
        at += size
        return int.from_bytes(data[at - size : at], "big")

    wide = 4 if version == 2 else 2
    places = {}
    for _ in range(min(number(wide), MOST_BOXES)):
        item, construction = number(wide), number(2) & 15 if version else 0
        number(2)
        base = number(base_size)
        extents = []
        for _ in range(min(number(2), MOST_BOXES)):
            number(index_size)
            offset = base + number(offset_size)
            extents.append((offset, number(length_size)))
        places[item] = (construction, extents)
    return places


def _properties(data: bytes, at: int, end: int) -> dict[int, list[tuple[str, bytes]]]:
    listed: list[tuple[str, bytes]] = []
    found: dict[int, list[tuple[str, bytes]]] = {}
    for name, start, stop in boxes(data, at, end):
        if name == "ipco":
            listed = [(n, data[a:b]) for n, a, b in boxes(data, start, stop)]
    for name, start, stop in boxes(data, at, end):
        if name != "ipma":
            continue
        version, wide = data[start], data[start + 3] & 1
        (count,) = struct.unpack_from(">I", data, start + 4)
        where = start + 8
        for _ in range(min(count, MOST_BOXES)):
            if where >= stop:
                break
            (item,) = struct.unpack_from(">I" if version else ">H", data, where)
            where += 4 if version else 2
            several = data[where]
            where += 1
            for _ in range(several):
                index = struct.unpack_from(">H" if wide else ">B", data, where)[0]
                where += 2 if wide else 1
                index &= 0x7FFF if wide else 0x7F
                if 0 < index <= len(listed):
                    found.setdefault(item, []).append(listed[index - 1])
    return found


def _references(data: bytes, at: int, end: int) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    form, size = (">I", 4) if data[at] else (">H", 2)
    for name, start, stop in boxes(data, at + 4, end):
        (source,) = struct.unpack_from(form, data, start)
        (count,) = struct.unpack_from(">H", data, start + size)
        first = start + size + 2
        count = min(count, max(stop - first, 0) // size)
        targets = struct.unpack_from(f">{count}{form[1]}", data, first)
        yield name, source, targets


def carried(found: Items, container: str) -> tuple[Carried, tuple[str, ...]]:
    """Everything beside the pixels of the primary picture, and notes on what is left behind."""
    exif = xmp = None
    parts = []
    for item in found.items.values():
        if item.kind == "Exif" and len(item.data) > 4 and exif is None:
            skip = 4 + int.from_bytes(item.data[:4], "big")
            exif = item.data[skip if skip < len(item.data) else 4 :].removeprefix(b"Exif\0\0")
        elif item.kind == "mime" and item.content_type.startswith(XMP_TYPE):
            xmp = xmp or item.data or None
        elif item.kind in {"mime", "uri "} and item.data:
            parts.append(Part(item.kind, item.content_type.rstrip(b"\0") + b"\0" + item.data))
    picture = found.picture
    properties = picture.properties if picture else ()
    parts += [Part(f"property {n}", c) for n, c in properties if n not in STRUCTURE]
    colours, profile = None, None
    for name, content in properties:
        if name == "colr" and content[:4] in {b"prof", b"rICC"}:
            profile = content[4:]
        elif name == "colr" and content[:4] == b"nclx" and len(content) >= 11:
            values = struct.unpack_from(">HHHB", content, 4)
            colours = Colours(values[0], values[1], values[2], values[3] >> 7)
    bits, subsampling = _coding(picture)
    carried = Carried(
        container=container,
        exif=exif,
        xmp=xmp,
        icc_profile=profile,
        colours=colours,
        parts=tuple(parts),
        bits=bits,
        avif_subsampling=subsampling,
    )
    return carried, tuple(_left_behind(found))


def _coding(picture: Item | None) -> tuple[int, str]:
    """Depth and subsampling, as AV1's configuration tells them."""
    flags = (picture.property("av1C") if picture else None) or b"\0\0\0\0"
    bits = (12 if flags[2] & 0x20 else 10) if flags[2] & 0x40 else 8
    across, down = flags[2] & 0x08, flags[2] & 0x04
    return bits, "420" if across and down else "422" if across else "444"


def is_monochrome(picture: Item) -> bool:
    """Whether AV1's configuration says that there is no colour."""
    return bool((picture.property("av1C") or b"\0\0\0")[2] & 0x10)


def _left_behind(found: Items) -> Iterator[str]:
    for item in found.to("auxl", found.primary):
        kind = (item.property("auxC") or b"")[4:].rstrip(b"\0")
        if kind.startswith(GAIN_MAPS):
            yield "its gain map does not fit the restored picture and is not kept"
        elif b"alpha" not in kind and not kind.endswith(b":1"):
            told = kind.decode("latin-1")
            yield f"its auxiliary picture {told} (such as a depth map) is not kept"
    if any(item.kind == "tmap" for item in found.items.values()):
        yield "its gain map does not fit the restored picture and is not kept"
    if found.to("thmb", found.primary):
        yield "its thumbnail, which shows the picture as it was, is not kept"


def further_boxes(data: bytes) -> list[str]:
    """Notes on what stands beside the items, such as content credentials in a ``uuid`` box."""
    known = {"ftyp", "meta", "mdat", "free", "skip", "moov", "idat"}
    names = dict.fromkeys(name for name, _, _ in boxes(data) if name not in known)
    return [f"box {name} is not kept: it may sign the pixels as they were" for name in names]


def further_pictures(found: Items) -> int:
    """Whole pictures beside the primary one."""
    inner = {b for kind, _, targets in found.references if kind == "dimg" for b in targets}
    bound = {a for kind, a, _ in found.references if kind in {"auxl", "thmb"}}
    coded = {
        i.id for i in found.items.values() if i.kind in {"av01", "hvc1", "grid", "iden", "iovl"}
    }
    return len(coded - inner - bound - {found.primary})


def turns(picture: Item, height: int, width: int) -> list[tuple[str, tuple[int, ...]]]:
    """What is to be done with the decoded picture, in order: crop, rotate, mirror.

    ``("clap", (top, left, height, width))``, ``("irot", (quarters to the left,))``,
    ``("imir", (axis,))``. Raises ``ValueError`` for a crop beyond the picture.
    """
    done: list[tuple[str, tuple[int, ...]]] = []
    for name, content in picture.properties:
        if name == "clap" and len(content) >= 32:
            values = struct.unpack_from(">IIIIiIiI", content)
            if not all(values[1::2]):
                raise ValueError("its crop is divided by zero")
            wide, high, right, below = (
                n / d for n, d in zip(values[::2], values[1::2], strict=True)
            )
            left, top = (width - wide) / 2 + right, (height - high) / 2 + below
            box = tuple(round(value) for value in (top, left, high, wide))
            if (
                min(box[:2]) < 0
                or box[0] + box[2] > height
                or box[1] + box[3] > width
                or 0 in box[2:]
            ):
                raise ValueError("its crop lies outside the picture")
            done.append((name, box))
        elif name in {"irot", "imir"} and content:
            done.append((name, (content[0] & (3 if name == "irot" else 1),)))
    return done


def size_of(picture: Item) -> tuple[int, int] | None:
    """(width, height) of the primary picture before it is turned."""
    ispe = picture.property("ispe")
    return struct.unpack_from(">II", ispe, 4) if ispe and len(ispe) >= 12 else None


def coded_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) that the AV1 sequence in ``data`` says of itself."""
    at = 0
    while at < len(data):
        head = data[at]
        at += 1 + (head >> 2 & 1)
        size, shift = len(data) - at, 0
        if head & 2:
            size = 0
            while at < len(data) and shift < 56:
                size |= (data[at] & 127) << shift
                shift, at = shift + 7, at + 1
                if not data[at - 1] & 128:
                    break
        if head >> 3 & 15 == 1:
            return _sequence_size(data[at : at + size])
        at += size
    return None


def _sequence_size(header: bytes) -> tuple[int, int] | None:
    """Of a still picture with the reduced header, which is what files of pictures have."""
    bits = int.from_bytes(header[:12].ljust(12, b"\0"), "big")

    def take(at: int, count: int) -> int:
        return bits >> (96 - at - count) & ((1 << count) - 1)

    if not take(4, 1):  # a sequence of frames with more to read
        return None
    across, down = take(10, 4) + 1, take(14, 4) + 1
    return take(18, across) + 1, take(18 + across, down) + 1


@dataclass(slots=True)
class _Writer:
    """Items and properties that are being written."""

    properties: list[bytes] = field(default_factory=list)
    rows: list[tuple[int, list[int]]] = field(default_factory=list)

    def add(self, item: int, listed: Sequence[tuple[str, bytes]]) -> None:
        indices = []
        for name, content in listed:
            packed = box(name, content)
            if packed not in self.properties:
                self.properties.append(packed)
            is_essential = name in {"av1C", "irot", "imir", "clap"}
            indices.append(self.properties.index(packed) + 1 | (0x8000 if is_essential else 0))
        self.rows.append((item, indices))

    def iprp(self) -> bytes:
        table = b"".join(
            struct.pack(">HB", item, len(indices)) + struct.pack(f">{len(indices)}H", *indices)
            for item, indices in self.rows
        )
        ipma = full("ipma", struct.pack(">I", len(self.rows)) + table, flags=1)
        return box("iprp", box("ipco", b"".join(self.properties)) + ipma)


def box(name: str, content: bytes) -> bytes:
    """A box as it stands in a file."""
    return struct.pack(">I", len(content) + 8) + name.encode("latin-1") + content


def full(name: str, content: bytes, *, version: int = 0, flags: int = 0) -> bytes:
    """A box with version and flags."""
    return box(name, bytes([version]) + flags.to_bytes(3, "big") + content)


def code_points(carried: Carried) -> Colours:
    """What an AVIF says of its colours: as the source did; sRGB, or nothing beside a profile."""
    return carried.colours or (Colours(2, 2, 6) if carried.icc_profile else Colours(1, 13, 6))


def with_parts(data: bytes, carried: Carried) -> bytes:
    """The AVIF in ``data``, as an encoder wrote it, with everything that is carried."""
    made = items(data)
    picture = made.picture
    if picture is None:
        raise ValueError("the encoder wrote no picture")
    kept = [p for p in picture.properties if p[0] != "colr"]
    matrix = next((c[8:11] for n, c in picture.properties if n == "colr" and c[:4] == b"nclx"), b"")
    primaries, transfer = code_points(carried)[:2]
    kept.append(
        ("colr", b"nclx" + struct.pack(">HH", primaries, transfer) + (matrix or b"\0\6\x80"))
    )
    if carried.icc_profile:
        kept.append(("colr", b"prof" + carried.icc_profile))
    kept += [(p.name[9:], p.data) for p in carried.parts if p.name.startswith("property ")]
    writer = _Writer()
    listed: list[tuple[Item, bytes]] = []
    references = b""
    for item in made.items.values():
        writer.add(item.id, kept if item is picture else item.properties)
        listed.append((item, b""))
    for kind, source, targets in made.references:
        references += _reference(kind, source, targets)
    number = max(made.items) + 1
    for kind, content_type, content in _further_items(carried):
        listed.append((Item(id=number, kind=kind, data=content), content_type))
        references += _reference("cdsc", number, (picture.id,))
        number += 1
    ftyp = next(data[a - 8 : b] for name, a, b in boxes(data) if name == "ftyp")
    return _assembled(ftyp, picture.id, listed, references, writer.iprp())


def _further_items(carried: Carried) -> Iterator[tuple[str, bytes, bytes]]:
    if carried.exif:
        yield "Exif", b"", b"\0\0\0\0" + carried.exif
    if carried.xmp:
        yield "mime", XMP_TYPE + b"\0", carried.xmp
    for part in carried.parts:
        if part.name in {"mime", "uri "}:
            content_type, _, content = part.data.partition(b"\0")
            yield part.name, content_type + b"\0", content


def _reference(kind: str, source: int, targets: Sequence[int]) -> bytes:
    return box(kind, struct.pack(f">HH{len(targets)}H", source, len(targets), *targets))


def _assembled(
    ftyp: bytes, primary: int, listed: Sequence[tuple[Item, bytes]], references: bytes, iprp: bytes
) -> bytes:
    infos = b"".join(
        full("infe", struct.pack(">HH4s", i.id, 0, i.kind.encode("latin-1")) + b"\0" + content_type,
             version=2, flags=int(content_type != b"" and i.kind != "mime"))
        for i, content_type in listed
    )  # fmt: skip
    iinf = full("iinf", struct.pack(">H", len(listed)) + infos)
    iref = full("iref", references) if references else b""
    handler = full("hdlr", struct.pack(">I4s12x", 0, b"pict") + b"\0")
    pitm = full("pitm", struct.pack(">H", primary))

    def meta(start: int) -> bytes:
        rows, at = b"", start
        for item, _ in listed:
            rows += struct.pack(">HHHII", item.id, 0, 1, at, len(item.data))
            at += len(item.data)
        iloc = full("iloc", struct.pack(">HH", 0x4400, len(listed)) + rows)
        return full("meta", handler + pitm + iloc + iinf + iref + iprp)

    start = len(ftyp) + len(meta(0)) + 8
    body = b"".join(item.data for item, _ in listed)
    return ftyp + meta(start) + box("mdat", body)
