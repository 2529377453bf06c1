"""EXIF and TIFF directories as bytes: read, corrected in place, taken out, copied elsewhere.

Makers' notes hold offsets that count from the beginning of the block. So a block is changed in
place wherever that is possible, and where directories must be copied the note keeps its offset.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

EXIF_IFD, GPS_IFD, INTEROP_IFD, SUB_IFDS = 0x8769, 0x8825, 0xA005, 0x014A
POINTERS = {EXIF_IFD, GPS_IFD, INTEROP_IFD}
ORIENTATION, MAKER_NOTE = 0x0112, 0x927C
X_RESOLUTION = 0x011A
WIDTH, HEIGHT, EXIF_WIDTH, EXIF_HEIGHT = 0x0100, 0x0101, 0xA002, 0xA003
THUMBNAIL, THUMBNAIL_SIZE, COMPRESSION = 0x0201, 0x0202, 0x0103
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
         16: 8, 17: 8, 18: 8, 129: 1}  # fmt: skip
TOO_WIDE = {13, 16, 17, 18}  # numbers of 64 bits, and offsets of directories that are not known
MOST_ENTRIES = 4_096
FARTHEST_NOTE = 64 << 20  # a note behind this moves: the block would be mostly empty
SHORT, LONG, UNDEFINED = 3, 4, 7
WHOLE = {1, SHORT, LONG, 6, 8, 9}  # types of numbers that some writer has used for any of them
# What says how a picture was taken, and nothing of who took it or where.
PUBLIC = {
    0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x010F, 0x0110, ORIENTATION, 0x0115, 0x011A, 0x011B,
    0x0128, 0x012D, 0x0131, 0x0132, 0x013E, 0x013F, 0x0211, 0x0212, 0x0213, 0x0214, EXIF_IFD,
    0x829A, 0x829D, 0x8822, 0x8824, 0x8827, 0x8828, *range(0x8830, 0x8836), 0x9000, 0x9003, 0x9004,
    0x9010, 0x9011, 0x9012, 0x9101, 0x9102, *range(0x9201, 0x920B), 0x9214, 0x9290, 0x9291, 0x9292,
    0x9400, 0x9401, 0x9402, 0x9403, 0x9404, 0x9405, 0xA000, 0xA001, EXIF_WIDTH, EXIF_HEIGHT,
    INTEROP_IFD, 0xA20B, 0xA20C, 0xA20E, 0xA20F, 0xA210, 0xA214, 0xA215, 0xA217, 0xA300, 0xA301,
    0xA302, *range(0xA401, 0xA40D), 0xA432, 0xA433, 0xA434, 0xA460, 0xA500, 0x0001, 0x0002,
    0x1000, 0x1001, 0x1002,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag: where it stands in its directory, and where its value is."""

    tag: int
    kind: int
    count: int
    at: int
    value_at: int
    size: int


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory of a block."""

    at: int
    entries: tuple[Entry, ...]
    next_at: int  # where the offset of the following directory stands

    def find(self, tag: int) -> Entry | None:
        """The entry of ``tag``."""
        return next((entry for entry in self.entries if entry.tag == tag), None)


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes that begin as a TIFF does."""

    data: bytes | bytearray
    order: str
    is_big: bool = False

    def number(self, entry: Entry) -> int:
        """The first number of an entry."""
        form = {SHORT: "H", 8: "h", 1: "B", 6: "b", 16: "Q", 18: "Q"}.get(entry.kind, "I")
        return int(struct.unpack_from(self.order + form, self.data, entry.value_at)[0])

    def value(self, entry: Entry) -> bytes:
        """The bytes of an entry, in the order of the block."""
        return bytes(self.data[entry.value_at : entry.value_at + entry.size])

    def offset(self, at: int) -> int:
        """The offset that stands at ``at``; 0 where there is none."""
        form, size = ("Q", 8) if self.is_big else ("I", 4)
        if at + size > len(self.data):
            return 0
        return int(struct.unpack_from(self.order + form, self.data, at)[0])

    def directory(self, at: int) -> Directory:
        """The directory at ``at``; what points beyond the block is left out."""
        count_size, entry_size, room = (8, 20, 8) if self.is_big else (2, 12, 4)
        if not 0 < at <= len(self.data) - count_size:
            return Directory(at, (), len(self.data))
        count = struct.unpack_from(self.order + ("Q" if self.is_big else "H"), self.data, at)[0]
        first = at + count_size
        if count > MOST_ENTRIES or first + entry_size * count > len(self.data):
            return Directory(at, (), len(self.data))
        entries = []
        for i in range(count):
            where = first + entry_size * i
            form = "HHQ" if self.is_big else "HHI"
            tag, kind, number = struct.unpack_from(self.order + form, self.data, where)
            size = SIZES.get(kind, 0) * number
            value_at = where + entry_size - room
            if size > room:
                value_at = self.offset(value_at)
            if size and value_at + size <= len(self.data):
                entries.append(Entry(tag, kind, number, where, value_at, size))
        return Directory(at, tuple(entries), first + entry_size * count)

    def first(self) -> Directory:
        """The first directory."""
        return self.directory(self.offset(8 if self.is_big else 4))

    def below(self, directory: Directory) -> Iterator[Directory]:
        """The directories that ``directory`` points to, and those below them."""
        for entry in directory.entries:
            if entry.tag in POINTERS:
                inner = self.directory(self.number(entry))
                yield inner
                interop = inner.find(INTEROP_IFD) if entry.tag == EXIF_IFD else None
                if interop:
                    yield self.directory(self.number(interop))

    def thumbnail(self) -> Directory | None:
        """The second directory, which describes the thumbnail."""
        at = self.offset(self.first().next_at)
        directory = self.directory(at) if at else None
        return directory if directory and directory.entries else None


def block_of(data: bytes | bytearray) -> Block | None:
    """``data`` as a block, or ``None`` if it does not begin as one."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < 8:
        return None
    (magic,) = struct.unpack_from(order + "H", data, 2)
    return Block(data, order, is_big=True) if magic == 43 else Block(data, order)


def orientation(exif: bytes) -> int:
    """1…8; 1 where nothing else is said."""
    block = block_of(exif)
    entry = block.first().find(ORIENTATION) if block else None
    value = block.number(entry) if block and entry else 1
    return value if 1 <= value <= 8 else 1


def says_orientation(exif: bytes) -> bool:
    """Whether the first directory has an orientation at all."""
    block = block_of(exif)
    return block is not None and block.first().find(ORIENTATION) is not None


def set_number(block: Block, entry: Entry | None, value: int) -> None:
    """Write ``value`` into an entry of one whole number, in place."""
    if entry is None or entry.count != 1 or not isinstance(block.data, bytearray):
        return
    if value < 65_536 and entry.kind in WHOLE - {LONG}:
        struct.pack_into(block.order + "HIHH", block.data, entry.at + 2, SHORT, 1, value, 0)
    elif entry.kind in WHOLE:
        struct.pack_into(block.order + "HII", block.data, entry.at + 2, LONG, 1, value)


def upright(exif: bytes) -> bytes:
    """``exif`` with orientation 1, also of its thumbnail; every other byte stays."""
    block = block_of(bytearray(exif))
    if block is None:
        return exif
    for directory in (block.first(), block.thumbnail()):
        if directory:
            set_number(block, directory.find(ORIENTATION), 1)
    return bytes(block.data)


def sized(exif: bytes, height: int, width: int) -> bytes:
    """``exif`` with the size of the picture as it is now, where it has one; in place."""
    block = block_of(bytearray(exif))
    if block is None:
        return exif
    for directory in (first := block.first(), *block.below(first)):
        for across, down in ((WIDTH, HEIGHT), (EXIF_WIDTH, EXIF_HEIGHT)):
            set_number(block, directory.find(across), width)
            set_number(block, directory.find(down), height)
    return bytes(block.data)


def thumbnail_size(exif: bytes | None) -> int | None:
    """Bytes of the JPEG that is EXIF's thumbnail; 0 if it is something else; ``None`` if none."""
    block = block_of(exif or b"")
    directory = block.thumbnail() if block else None
    if block is None or directory is None:
        return None
    at, size = directory.find(THUMBNAIL), directory.find(THUMBNAIL_SIZE)
    return block.number(size) if at and size else 0


def with_thumbnail(exif: bytes, jpeg: bytes | None, size: tuple[int, int]) -> bytes:
    """``exif`` with another thumbnail of ``size`` (height, width), or without any; in place.

    What is longer than the old one goes to the end.
    """
    data = bytearray(exif)
    block = block_of(data)
    directory = block.thumbnail() if block else None
    if block is None or directory is None:
        return exif
    at, length = directory.find(THUMBNAIL), directory.find(THUMBNAIL_SIZE)
    if at and length:
        start, old = block.number(at), block.number(length)
        if start + old <= len(data):
            data[start : start + old] = bytes(old)
            if start + old == len(data):  # the usual case: it stood last
                del data[start:]
    if jpeg is None or not at or not length:
        struct.pack_into(block.order + "I", data, block.first().next_at, 0)
        return bytes(data)
    if not (start + len(jpeg) <= len(data) and len(jpeg) <= old):
        start = len(data)
        data.extend(bytes(len(jpeg)))
    data[start : start + len(jpeg)] = jpeg
    set_number(block, at, start)
    set_number(block, length, len(jpeg))
    set_number(block, directory.find(WIDTH), size[1])
    set_number(block, directory.find(HEIGHT), size[0])
    return bytes(data)


def without(exif: bytes, tags: Collection[int], *, inner: bool = True) -> bytes:
    """``exif`` less ``tags``, whose values become zeros; every other byte stays."""
    return _keeping(exif, lambda tag: tag not in tags, inner=inner)


def public(exif: bytes) -> bytes:
    """``exif`` with what names neither a person nor a place; no thumbnail."""
    bare = with_thumbnail(exif, None, (0, 0))
    return _keeping(bare, lambda tag: tag in PUBLIC, inner=True)


def _keeping(exif: bytes, is_kept: Callable[[int], bool], *, inner: bool) -> bytes:
    data = bytearray(exif)
    block = block_of(data)
    if block is None or block.is_big:
        return exif
    first = block.first()
    for directory in (first, *(block.below(first) if inner else ())):
        for entry in directory.entries:
            if is_kept(entry.tag):
                continue
            if entry.tag in POINTERS:
                _erase(block, data, block.directory(block.number(entry)))
            data[entry.value_at : entry.value_at + entry.size] = bytes(entry.size)
        kept = [e for e in directory.entries if is_kept(e.tag)]
        rows = b"".join(bytes(data[e.at : e.at + 12]) for e in kept)
        after = block.offset(directory.next_at)
        rows += struct.pack(block.order + "I", after)
        room = directory.next_at + 4 - directory.at - 2
        data[directory.at : directory.at + 2] = struct.pack(block.order + "H", len(kept))
        data[directory.at + 2 : directory.at + 2 + room] = rows.ljust(room, b"\0")[:room]
    return bytes(data)


def _erase(block: Block, data: bytearray, directory: Directory) -> None:
    for entry in directory.entries:
        data[entry.value_at : entry.value_at + entry.size] = bytes(entry.size)
    data[directory.at : directory.next_at] = bytes(directory.next_at - directory.at)


@dataclass(slots=True)
class _Copy:
    """A block that is being written; ``held`` is kept free for the makers' note."""

    order: str
    held: tuple[int, int] = (0, 0)
    other: Mapping[int, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    gap: tuple[int, int] = (0, 0)

    def place(self, value: bytes) -> int:
        """Append ``value`` at an even offset, beyond what is held; its offset."""
        self.data.extend(bytes(len(self.data) % 2))
        start, end = self.held
        if len(self.data) < end and len(self.data) + len(value) > start:
            self.gap = (len(self.data), start)
            self.data.extend(bytes(end + end % 2 - len(self.data)))
        at = len(self.data)
        self.data.extend(value)
        return at


def copied(
    data: bytes,
    drop: Collection[int],
    *,
    holds_note: bool,
    other: Mapping[int, bytes] = MappingProxyType({}),
) -> tuple[bytes, tuple[int, int]]:
    """The directories of the TIFF in ``data`` as a block of their own, values as they are.

    With ``holds_note`` a makers' note keeps its offset, and the gap in front of it, (start, end),
    may be used for something else. Tags in ``drop`` stay behind, and so do all but the first
    directory and those below it. ``other`` has values to be written instead of those of bytes
    in the first directory. Empty if nothing is left.
    """
    source = block_of(data)
    if source is None:
        return b"", (0, 0)
    first = source.first()
    target = _Copy(source.order, other=other)
    note = next((e for d in source.below(first) for e in d.entries if e.tag == MAKER_NOTE), None)
    if holds_note and note and note.size > 4 and note.value_at < FARTHEST_NOTE:
        target.held = (note.value_at, note.value_at + note.size)
    mark = b"II*\0" if source.order == "<" else b"MM\0*"
    target.data.extend(mark + struct.pack(source.order + "I", 8))
    if note is not None and target.held[0] < 16 and target.held[1]:
        target.held = (0, 0)
    at = _copy_directory(source, first, target, drop)
    if at is None:
        return b"", (0, 0)
    struct.pack_into(source.order + "I", target.data, 4, at)
    if target.held[1] > len(target.data):
        target.gap = (len(target.data), target.held[0])
        target.data.extend(bytes(target.held[1] - len(target.data)))
    if target.held[1] and note:
        target.data[target.held[0] : target.held[1]] = source.value(note)
    return bytes(target.data), target.gap


def left_behind(data: bytes, structure: Collection[int]) -> list[str]:
    """Notes on tags of the first directory that `copied` leaves behind: their type has no place."""
    source = block_of(data)
    if source is None:
        return []
    entries = source.first().entries
    tags = [e.tag for e in entries if e.kind in TOO_WIDE and e.tag not in {*structure, *POINTERS}]
    return [
        f"tag {tag}, a number of 64 bits or a directory of its own, is not kept" for tag in tags
    ]


def _copy_directory(
    source: Block, directory: Directory, target: _Copy, drop: Collection[int], depth: int = 0
) -> int | None:
    entries = [e for e in directory.entries if (e.tag not in drop and e.kind not in TOO_WIDE)
               or e.tag in POINTERS - set(drop)]  # fmt: skip
    if not entries or depth > 2:  # directories in a circle
        return None
    table = target.place(bytes(2 + 12 * len(entries) + 4))
    rows = []
    for entry in sorted(entries, key=lambda e: e.tag):
        kind, count, value = entry.kind, entry.count, source.value(entry)
        if entry.tag in POINTERS:
            inner = source.directory(source.number(entry))
            where = _copy_directory(source, inner, target, (), depth + 1)
            if where is None:
                continue
            kind, count, value = LONG, 1, struct.pack(source.order + "I", where)
        elif depth == 0 and entry.tag in target.other:
            value = target.other[entry.tag]
            kind, count = UNDEFINED, len(value)
        if len(value) > 4:
            is_note = entry.tag == MAKER_NOTE and target.held[1]
            where = target.held[0] if is_note else target.place(value)
            value = struct.pack(source.order + "I", where)
        rows.append(
            struct.pack(source.order + "HHI", entry.tag, kind, count) + value.ljust(4, b"\0")
        )
    packed = struct.pack(source.order + "H", len(rows)) + b"".join(rows)
    target.data[table : table + len(packed)] = packed
    return table
