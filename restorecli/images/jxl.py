"""JPEG XL: its header, and the boxes of its container, as bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from restorecli.images.bmff import box, boxes
from restorecli.images.photo import Carried, Colours, Part, Photo, Pixels

SIGNATURE = b"\0\0\0\x0cJXL \r\n\x87\n"
CODESTREAM = b"\xff\x0a"
DEEPER = 12  # bits, which a header says in as much room as 8
LARGEST = 16 << 20  # bytes that packed EXIF or XMP may have
RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
STRUCTURE = {"JXL ", "ftyp", "jxlc", "jxlp", "jxll", "jxli", "jbrd", "Exif", "xml ", "brob"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the codestream says of the picture."""

    width: int
    height: int
    orientation: int = 1
    bits: int = 8
    is_float: bool = False
    is_lossless: bool = False
    has_profile: bool = False
    colours: Colours | None = None
    is_animated: bool = False
    depth_at: int = 0  # bit of the codestream where the depth is chosen, or 0
    transfer_at: int = 0  # bit of the codestream where the curve stands in four bits, or 0


class _Bits:
    """Bits from the least significant on."""

    def __init__(self, data: bytes) -> None:
        self.value, self.at = int.from_bytes(data[:512], "little"), 0

    def take(self, count: int) -> int:
        found = self.value >> self.at & ((1 << count) - 1)
        self.at += count
        return found

    def choice(self, *branches: tuple[int, int]) -> int:
        """U32: a base and a number of further bits, chosen by two bits."""
        base, count = branches[self.take(2)]
        return base + self.take(count)

    def enum(self) -> int:
        return self.choice((0, 0), (1, 0), (2, 4), (18, 6))


def codestream(data: bytes) -> bytes:
    """The beginning of the codestream, out of its container if there is one."""
    if data.startswith(CODESTREAM):
        return data[:1024]
    found = b""
    for name, start, end in boxes(data):
        if name == "jxlc":
            return data[start : min(end, start + 1024)]
        if name == "jxlp":
            found += data[start + 4 : min(end, start + 1024)]
    return found


def header(data: bytes) -> Header:
    """Parse the header (ISO/IEC 18181-1, annexes B and E); ``ValueError`` if there is none."""
    stream = codestream(data)
    if not stream.startswith(CODESTREAM):
        raise ValueError("it has no codestream")
    bits = _Bits(stream[2:])
    width, height = _size(bits)
    if bits.take(1):  # all of the metadata is as usual: 8 bits, XYB, sRGB
        return Header(width=width, height=height)
    orientation, is_animated = 1, False
    if bits.take(1):  # extra fields
        orientation = bits.take(3) + 1
        if bits.take(1):
            _size(bits)
        if bits.take(1):
            _preview(bits)
        if bits.take(1):
            is_animated = True
            return Header(width=width, height=height, is_animated=True)
    depth_at = 16 + bits.at + 1
    depth, is_float = _depth(bits)
    bits.take(1)  # whether 16-bit buffers are enough
    for _ in range(bits.choice((0, 0), (1, 0), (2, 4), (1, 12))):
        _extra_channel(bits)
    is_xyb = bool(bits.take(1))
    has_profile, colours, transfer_at = _encoding(bits)
    return Header(
        width=width, height=height, orientation=orientation, bits=depth, is_float=is_float,
        is_lossless=not is_xyb, has_profile=has_profile, colours=colours, is_animated=is_animated,
        transfer_at=transfer_at, depth_at=depth_at,
    )  # fmt: skip


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)
    lengths = ((1, 9), (1, 13), (1, 18), (1, 30))
    height = 8 * (bits.take(5) + 1) if small else bits.choice(*lengths)
    if ratio := bits.take(3):
        across, down = RATIOS[ratio]
        return height * across // down, height
    return (8 * (bits.take(5) + 1) if small else bits.choice(*lengths)), height


def _preview(bits: _Bits) -> None:
    by_eight = bits.take(1)
    lengths = ((16, 0), (32, 0), (1, 5), (33, 9)) if by_eight else (
        (1, 6), (65, 8), (321, 10), (1345, 12))  # fmt: skip
    bits.choice(*lengths)
    if not bits.take(3):
        bits.choice(*lengths)


def _depth(bits: _Bits) -> tuple[int, bool]:
    if bits.take(1):
        depth = bits.choice((32, 0), (16, 0), (24, 0), (1, 6))
        bits.take(4)
        return depth, True
    return bits.choice((8, 0), (10, 0), (12, 0), (1, 6)), False


def _extra_channel(bits: _Bits) -> None:
    if bits.take(1):  # alpha of 8 bits, as usual
        return
    kind = bits.enum()
    _depth(bits)
    bits.choice((0, 0), (3, 0), (4, 0), (1, 3))
    name = bits.choice((0, 0), (0, 4), (16, 5), (48, 10))
    bits.take(8 * name)
    if kind == 0:
        bits.take(1)
    elif kind == 2:
        bits.take(64)
    elif kind == 5:
        bits.choice((1, 0), (0, 2), (3, 4), (19, 8))


def _encoding(bits: _Bits) -> tuple[bool, Colours | None, int]:
    """Whether a profile follows; code points of what is said without one; where the curve is."""
    if bits.take(1):
        return False, None, 0
    has_profile = bool(bits.take(1))
    space = bits.enum()
    if has_profile or space == 2:
        return has_profile, None, 0
    white = bits.enum()
    if white == 2:
        _xy(bits)
    primaries = 1
    if space != 1:
        primaries = bits.enum()
        if primaries == 2:
            for _ in range(3):
                _xy(bits)
    transfer_at = 0
    if bits.take(1):
        transfer = {4_545_455: 4, 4_545_454: 4, 10_000_000: 8}.get(bits.take(24), 0)
    else:
        transfer_at = 16 + bits.at + 2
        transfer = bits.enum()
        if not 2 <= transfer < 18:
            transfer_at = 0
    if white != 1 or primaries not in {1, 9, 11}:
        return True, None, 0  # only a profile could say it
    code = 12 if primaries == 11 else primaries
    colours = None if (code, transfer) == (1, 13) else Colours(code, transfer)
    return False, colours, transfer_at


def with_srgb_curve(stream: bytes) -> bytes:
    """The codestream, which says that its light is linear, saying that its curve is sRGB's."""
    head = header(stream)
    if head.colours is None:
        return stream
    if not head.transfer_at:
        raise ValueError("the encoder wrote no curve")
    value = int.from_bytes(stream[:64], "little")
    value &= ~(15 << head.transfer_at)
    value |= 13 - 2 << head.transfer_at
    return value.to_bytes(64, "little") + stream[64:]


def deepened(data: bytes) -> bytes:
    """A JPEG XL of 8 bits whose light is coded, saying that it has `DEEPER` ones."""
    stream = codestream(data)
    at = data.index(stream[:64])
    value = int.from_bytes(data[at : at + 64], "little")
    value |= 2 << header(data).depth_at
    return data[:at] + value.to_bytes(64, "little")[: len(data) - at] + data[at + 64 :]


def profile_of(data: bytes) -> bytes | None:
    """The colour profile inside the codestream; ``None`` if nothing here can read it."""
    try:
        import pylibjxl
    except ImportError:
        return None
    return pylibjxl.decode(data, metadata=True)[1].get("icc")


def with_profile(planes: Pixels, profile: bytes, *, distance: float | None) -> bytes:
    """A codestream of uint8 planes with a colour profile; lossless without ``distance``."""
    import pylibjxl

    coding = {"lossless": True} if distance is None else {"distance": distance}
    return bytes(pylibjxl.encode(np.ascontiguousarray(planes), icc=profile, **coding))


def can_hold_profile(photo: Photo) -> bool:
    """Whether `with_profile` takes these pixels with their profile."""
    channels = 1 if photo.is_gray else 3
    space = (photo.carried.icc_profile or b"")[16:20]
    if photo.bits != 8 or space != (b"GRAY" if channels == 1 else b"RGB "):
        return False
    if channels == 1 and photo.alpha is not None:
        return False
    return find_spec("pylibjxl") is not None


def _xy(bits: _Bits) -> None:
    for _ in range(2):
        bits.choice((0, 19), (524_288, 19), (1_048_576, 20), (2_097_152, 21))


def carried(data: bytes) -> Carried:
    """Everything beside pixels."""
    exif = xmp = None
    parts = []
    if data.startswith(SIGNATURE):
        for name, start, end in boxes(data):
            content = data[start:end]
            if name == "Exif" and len(content) > 4:
                exif = content[4 + int.from_bytes(content[:4], "big") :].removeprefix(b"Exif\0\0")
            elif name == "xml ":
                xmp = xmp or content
            elif name == "brob" and (inner := _unpacked(content)) is not None:
                kind, value = inner
                if kind == "xml ":
                    xmp = xmp or value
                else:
                    exif = exif or value[4 + int.from_bytes(value[:4], "big") :]
            elif name not in STRUCTURE or name == "brob":
                parts.append(Part(name, content))
    head = header(data)
    return Carried(
        container="JXL", exif=exif or None, xmp=xmp, colours=head.colours, parts=tuple(parts),
        bits=head.bits, lossless=head.is_lossless,
    )  # fmt: skip


def left_behind(data: bytes) -> tuple[str, ...]:
    """Notes on boxes that say something of the pixels as they were."""
    names = {name for name, _, _ in boxes(data)} if data.startswith(SIGNATURE) else set()
    return ("the way back to the JPEG that it was made of is not kept",) * ("jbrd" in names)


def _unpacked(content: bytes) -> tuple[str, bytes] | None:
    """Kind and content of EXIF or XMP that Brotli has packed; ``None`` for all else."""
    kind = content[:4].decode("latin-1")
    if kind not in {"Exif", "xml "}:
        return None
    import imagecodecs

    try:
        value = bytes(imagecodecs.brotli_decode(content[4:], out=LARGEST))
    except Exception:  # broken, or too large: it stays as it is
        return None
    return (kind, value.removeprefix(b"\xef\xbb\xbf")) if len(value) > 4 else None


def with_parts(data: bytes, carried: Carried) -> bytes:
    """The JPEG XL in ``data``, as an encoder wrote it, with everything that is carried."""
    more = [("Exif", b"\0\0\0\0" + carried.exif)] if carried.exif else []
    more += [("xml ", carried.xmp)] if carried.xmp else []
    more += [(part.name, part.data) for part in carried.parts]
    if data.startswith(CODESTREAM):
        picture = box("jxlc", data)
    else:
        kept = [(n, a, b) for n, a, b in boxes(data) if n in {"jxlc", "jxlp", "jxll"}]
        picture = b"".join(box(n, data[a:b]) for n, a, b in kept)
    ftyp = box("ftyp", b"jxl " + struct.pack(">I", 0) + b"jxl ")
    level, rest = picture, b""
    if picture[4:8] == b"jxll":
        level, rest = picture[:9], picture[9:]
        return SIGNATURE + ftyp + level + b"".join(box(*b) for b in more) + rest
    return SIGNATURE + ftyp + b"".join(box(*b) for b in more) + picture
