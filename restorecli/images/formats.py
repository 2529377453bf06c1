"""Which formats there are, what each can hold, and how refused ones are recognised."""

from __future__ import annotations

import re
from dataclasses import dataclass

from restorecli.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What a format that we write can hold."""

    suffix: str
    bits: frozenset[int]
    alpha: bool = True
    metadata: bool = True  # EXIF, XMP and ICC


WRITABLE = {
    "PNG": Format(suffix=".png", bits=frozenset({8, 16})),
    "JPEG": Format(suffix=".jpg", bits=frozenset({8}), alpha=False),
    "WEBP": Format(suffix=".webp", bits=frozenset({8})),
    "TIFF": Format(suffix=".tif", bits=frozenset({8, 16, 32})),
    "AVIF": Format(suffix=".avif", bits=frozenset({8})),
    "BMP": Format(suffix=".bmp", bits=frozenset({8}), alpha=False, metadata=False),
}
READABLE = {*WRITABLE, "MPO", "HEIF"}  # MPO: a JPEG with further pictures behind it
FORMAT_OF_SUFFIX = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
    ".bmp": "BMP",
}
HEIC_SUFFIXES = {".heic", ".heif", ".hif"}  # read only
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
RAW = re.compile(rb"FUJIFILMCCD-RAW|IIRO|IIRS|MMOR|IIU\0|\0MRM|FOVb|....ftypcrx ", re.DOTALL)
VIDEO = re.compile(rb"RIFF....AVI |\x1aE\xdf\xa3|\0\0\x01[\xba\xb3]|....moov|FLV\x01", re.DOTALL)
HEAD_BYTES = 64
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def foreign(head: bytes) -> str | None:
    """``a camera's raw file`` or ``a video`` if the first bytes say so."""
    if RAW.match(head):
        return "a camera's raw file"
    if VIDEO.match(head):
        return "a video"
    if head[4:8] == b"ftyp" and not brands(head) & (HEIC_BRANDS | AVIF_BRANDS):
        return "a video"
    return None


def brands(head: bytes) -> set[bytes]:
    """What an ISO media file says it is compatible with; empty for other files."""
    if head[4:8] != b"ftyp":
        return set()
    return {head[8:12]} | {head[at : at + 4] for at in range(16, len(head) - 3, 4)}


def suffix_for(suffix: str, kind: str | None) -> str:
    """The suffix of a result: that of the input, unless results cannot have it."""
    if suffix.lower() in FORMAT_OF_SUFFIX:
        return suffix
    kind = "JPEG" if kind == "MPO" else kind
    return WRITABLE[kind].suffix if kind in WRITABLE else WRITABLE["PNG"].suffix


def too_large(name: str, width: int, height: int, max_pixels: int) -> InputError:
    """What to say of a header that promises more than the limit."""
    return InputError(
        f"Cannot read {name}: its header promises {width}×{height} pixels, "
        f"more than the limit of {max_pixels / 1e6:g} million.",
        hint="If the file can be trusted, raise --max-pixels.",
    )
