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

    A fourth channel that is 0 everywhere is unused, as other programs take it. Raises
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
    if planes.shape[2] == 4 and not planes[..., 3].any():
        planes = planes[..., :3]
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
        with Image.open(io.BytesIO(data)) as picture:
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
