"""Formats of a header and plain values, where Pillow reads only some: BMP and PNM."""

from __future__ import annotations

import io
import re
import struct

import numpy as np
from PIL import Image

from restorecli.images.photo import Pixels

PNM = re.compile(rb"P[1-6]\s")
NUMBER = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])+(\d+)")
BITFIELDS = {3, 6}
PIECE = 1 << 20  # values


def bmp_planes(data: bytes) -> Pixels | None:
    """(H, W, 3 or 4) uint8 of a BMP whose channels lie in fields of bits; ``None`` for others.

    A fourth channel that is 0 everywhere, or opaque, is unused, as other programs take it. Raises
    ``ValueError`` for a file that is cut off.
    """
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size < 40 or len(data) < 14 + header_size:
        return None
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if bits not in {16, 32} or (compression not in BITFIELDS and (bits, compression) != (16, 0)):
        return None
    masks = (0x7C00, 0x03E0, 0x001F, 0)
    if compression in BITFIELDS:
        has_alpha = header_size >= 56 or compression == 6
        masks = struct.unpack_from("<4I" if has_alpha else "<3I", data, 54) + (0,) * (not has_alpha)
    (start,) = struct.unpack_from("<I", data, 10)
    row = (width * bits + 31) // 32 * 4
    if width <= 0 or len(data) < start + row * abs(height):
        raise ValueError("its rows are cut off")
    rows = np.frombuffer(data, np.uint8, row * abs(height), start).reshape(abs(height), row)
    values = rows[:, : width * bits // 8].copy().view(f"<u{bits // 8}").astype(np.uint32)
    planes = np.stack([_field(values, mask) for mask in masks if mask], axis=-1)
    if planes.shape[2] == 4 and (not planes[..., 3].any() or planes[..., 3].min() == 255):
        planes = planes[..., :3]  # unused, or opaque everywhere
    if planes.shape[2] not in {3, 4}:
        raise ValueError("its fields of bits are not those of red, green and blue")
    return planes if height < 0 else planes[::-1]


def _field(values: Pixels, mask: int) -> Pixels:
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    return np.rint((values & mask) / (1 << shift) * (255 / most)).astype(np.uint8)


def with_windows_header(data: bytes) -> bytes:
    """A BMP of OS/2, whose header may stop anywhere, with the header that Pillow reads."""
    (size,) = struct.unpack_from("<I", data, 14)
    if not 12 < size < 40 or len(data) < 14 + size:
        return data
    header = data[18 : 14 + size].ljust(36, b"\0")[:36]
    (start,) = struct.unpack_from("<I", data, 10)
    grown = 40 - size
    head = data[:10] + struct.pack("<I", start + grown) + struct.pack("<I", 40)
    return head + header + data[14 + size :]


def bmp_size(data: bytes) -> tuple[int, int]:
    """(width, height) in the header."""
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        return struct.unpack_from("<HH", data, 18)
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)


def bmp_profile(data: bytes) -> bytes | None:
    """The ICC profile in a BMP of version 5."""
    (size,) = struct.unpack_from("<I", data, 14)
    if size < 124 or len(data) < 138 or data[70:74] != b"DEBM":
        return None
    at, length = struct.unpack_from("<II", data, 126)
    profile = data[14 + at : 14 + at + length]
    return profile if len(profile) == length and profile[36:40] == b"acsp" else None


def bmp_colours_lost(data: bytes) -> tuple[str, ...]:
    """Notes on what a BMP says of its colours and no profile here does."""
    (size,) = struct.unpack_from("<I", data, 14)
    if size < 108 or len(data) < 14 + size:
        return ()
    if data[70:74] == b"KNIL":  # a name in the file of somebody else's disk
        return ("the colour profile that it names stands in another file; not kept",)
    if data[70:74] == bytes(4) and any(data[74:122]):
        return ("the primaries and gamma of its colours (BMP version 4) are not kept",)
    return ()


def gif_blocks(data: bytes) -> tuple[list[bytes], bytes | None, list[str]]:
    """Comments of a GIF, its ICC profile, and the names of application blocks that say more."""
    comments, others = list[bytes](), list[str]()
    profile = None
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while at < len(data) and data[at] in b"\x21\x2c":
        if data[at] == 0x2C:  # the picture: its colours, then pieces of what is packed
            if at + 10 > len(data):
                break
            at += 11 + (3 << (data[at + 9] & 7) + 1 if data[at + 9] & 0x80 else 0)
            _, at = _gif_pieces(data, at)
            continue
        label = data[at + 1 : at + 2]
        pieces, at = _gif_pieces(data, at + 2)
        if label == b"\xfe":
            comments.append(b"".join(pieces))
        elif label == b"\xff" and pieces:
            if pieces[0] == b"ICCRGBG1012":
                profile = b"".join(pieces[1:])
            elif pieces[0] not in GIF_KNOWN:
                others.append(pieces[0][:8].decode("latin-1").strip())
    return comments, profile, others


GIF_KNOWN = {b"NETSCAPE2.0", b"ANIMEXTS1.0", b"XMP DataXMP"}  # loops, and what is read elsewhere


def _gif_pieces(data: bytes, at: int) -> tuple[list[bytes], int]:
    """The pieces that stand at ``at``, and where they end."""
    pieces = []
    while at < len(data) and data[at]:
        pieces.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return pieces, at + 1


def pnm_pictures_behind(data: bytes) -> int:
    """Further pictures of a PBM, PGM or PPM of plain bytes, which may follow one another."""
    count = 0
    while PNM.match(data) and data[1:2] in b"456":
        try:
            width, height, most, start = pnm_header(data)
        except ValueError:
            break
        row = (width + 7) // 8 if data[1:2] == b"4" else width * (1 + 2 * (data[1:2] == b"6"))
        size = row * height * (1 + (most > 255))
        data = data[start + size :].lstrip()
        count += 1
    return max(count - 1, 0)


def pnm_header(data: bytes) -> tuple[int, int, int, int]:
    """(width, height, largest value, where values begin) of a PBM, PGM or PPM."""
    at, numbers = 2, []
    for _ in range(2 if data[1:2] in b"14" else 3):
        found = NUMBER.match(data, at, 4_096)
        if found is None or len(found.group(1)) > 10:
            raise ValueError("its header is incomplete")
        numbers.append(int(found.group(1)))
        at = found.end()
    width, height, most = (*numbers, 1)[:3]
    if not width * height or not 0 < most < 65_536:
        raise ValueError("its header makes no sense")
    return width, height, most, at + 1


def pnm_planes(data: bytes) -> Pixels:
    """(H, W) or (H, W, 3) of a PNM, uint8, or uint16 if its values need it."""
    width, height, most, at = pnm_header(data)
    channels = 3 if data[1:2] in b"36" else 1
    shape = (height, width, channels) if channels == 3 else (height, width)
    if data[1:2] in b"14" or most < 256:
        with Image.open(io.BytesIO(data), formats=("PPM",)) as picture:
            return np.array(picture.convert("RGB" if channels == 3 else "L"))
    count = width * height * channels
    if data[1:2] in b"56":
        values = np.frombuffer(data, ">u2", count, at)
    else:
        words = data[at - 1 :].split()
        if len(words) < count:
            raise ValueError("its values are cut off")
        values = np.array(words[:count], dtype=np.float64)
    planes = np.empty(count, np.uint16)
    for at in range(0, count, PIECE):  # in pieces: float64 takes four times as much
        part = slice(at, at + PIECE)
        planes[part] = np.rint(values[part].clip(0, most) * (65_535 / most))
    return planes.reshape(shape)
