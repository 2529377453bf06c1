"""Which formats there are, what each can hold, and how a file is recognised by its beginning."""

from __future__ import annotations

import re
import struct
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
    "AVIF": Format(suffix=".avif", bits=frozenset({8, 10, 12})),
    "JXL": Format(suffix=".jxl", bits=frozenset({8, 16, 32})),
    "BMP": Format(suffix=".bmp", bits=frozenset({8}), alpha=False, metadata=False),
}
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
    ".jxl": "JXL",
    ".bmp": "BMP",
}
# Read only: the result is a PNG unless another format is asked for.
READ_SUFFIXES = {".gif", ".pbm", ".pgm", ".ppm", ".pnm", ".dib"}
HEIC_SUFFIXES = {".heic", ".heif", ".hif"}
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
RAW = re.compile(rb"FUJIFILMCCD-RAW|IIRO|IIRS|MMOR|IIU\0|\0MRM|FOVb|....ftypcrx ", re.DOTALL)
RAW_FILE = "a camera's raw file"
MAGIC = (  # of what is recognised without a library
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8", "JPEG"),
    (b"BM", "BMP"),
    (b"GIF8", "GIF"),
    (b"\xff\x0a", "JXL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
)
NAMES = {  # real names of kinds of pictures that are refused
    b"8BPS": "a Photoshop document (PSD)",
    b"\0\0\x01\0": "an icon (ICO)",
    b"\0\0\x02\0": "a cursor (CUR)",
    b"DDS ": "a DirectX texture (DDS)",
    b"qoif": "a QOI picture",
    b"\x76\x2f\x31\x01": "an OpenEXR picture",
    b"#?RADIANCE": "a Radiance picture (HDR)",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
    b"II\xbc": "a JPEG XR picture",
    b"P7\n": "a PAM picture",
    b"Pf": "a PFM picture",
    b"PF": "a PFM picture",
    b"SIMPLE  =": "a FITS picture",
    b"\x8aMNG": "an animation (MNG)",
    b"\x8bJNG": "a JNG picture",
    b"gimp xcf": "a GIMP document (XCF)",
    b"icns": "an icon (ICNS)",
    b"BPG\xfb": "a BPG picture",
    b"FLIF": "a FLIF picture",
    b"AT&TFORM": "a DjVu document",
    b"\x01\xda\0": "an SGI picture",
    b"\x01\xda\x01": "an SGI picture",
    b"\x59\xa6\x6a\x95": "a Sun raster picture",
}
TGA = re.compile(  # has no magic: no colour map, both sides above 0, 8 to 32 bits
    rb".\0[\x02\x03\x0a\x0b]\0{5}.{4}(?!\0\0).{2}(?!\0\0).{2}[\x08\x0f\x10\x18\x20][\0-\x3f]",
    re.DOTALL,
)
NO_PICTURES = {  # real names of what is found under the name of a picture
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript (EPS)",
    b"%PDF": "a PDF document",
    b"<svg": "an SVG drawing",
    b"<!doctype html": "a web page (HTML)",
    b"<html": "a web page (HTML)",
    b"version https://git-lfs": "what Git LFS leaves in place of a file until `git lfs pull`",
    b"\0\x05\x16\x07": "what macOS keeps beside a file (AppleDouble)",
    b"PK\x03\x04": "an archive (ZIP)",
    b"\x1f\x8b": "an archive (gzip)",
    b"7z\xbc\xaf\x27\x1c": "an archive (7z)",
    b"Rar!\x1a\x07": "an archive (RAR)",
}
VIDEO = re.compile(rb"RIFF....AVI |\x1aE\xdf\xa3|\0\0\x01[\xba\xb3]|....moov|FLV\x01", re.DOTALL)
HEAD_BYTES = 64
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def foreign(head: bytes) -> str | None:
    """`RAW_FILE` or ``a video`` if the first bytes say so."""
    if RAW.match(head):
        return RAW_FILE
    if VIDEO.match(head):
        return "a video"
    if head[4:8] == b"ftyp" and not brands(head) & (HEIC_BRANDS | AVIF_BRANDS):
        return "a video"
    return None


def refused_name(head: bytes) -> str | None:
    """What a file is that is not read, if its beginning tells."""
    if TGA.match(head):
        return "a Targa picture (TGA)"
    found = (name for magic, name in NAMES.items() if head.startswith(magic))
    return next(found, None) or no_picture_name(head)


def no_picture_name(head: bytes) -> str | None:
    """What a file is that is no picture at all, if its beginning tells."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    found = (name for magic, name in NO_PICTURES.items()
             if head.startswith(magic) or text.startswith(magic))  # fmt: skip
    return next(found, None)


def brands(head: bytes) -> set[bytes]:
    """What an ISO media file says it is compatible with; empty for other files."""
    if head[4:8] != b"ftyp":
        return set()
    return {head[8:12]} | {head[at : at + 4] for at in range(16, len(head) - 3, 4)}


def kind_of(head: bytes) -> str | None:
    """``PNG``, ``JPEG``, …, ``HEIF``, ``GIF``, ``PNM`` by the first bytes, or ``None``."""
    for magic, kind in MAGIC:
        if head.startswith(magic):
            return kind
    if head.startswith(TIFF_MAGIC):
        return "TIFF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if re.match(rb"P[1-6]\s", head):
        return "PNM"
    found = brands(head)
    if found & AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if found & HEIC_BRANDS else None


def suffix_for(suffix: str, kind: str | None) -> str:
    """The suffix of a result of ``kind``; what the input had, if that says the same.

    Without a ``kind`` the suffix is believed.
    """
    named = FORMAT_OF_SUFFIX.get(suffix.lower())
    if kind is None and named:
        return suffix
    written = result_kind(kind)
    return suffix if named == written else WRITABLE[written].suffix


def result_kind(kind: str | None) -> str:
    """The format in which a picture of ``kind`` is written: its own, or PNG."""
    return kind if kind in WRITABLE else "PNG"


def inner_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) that a coded strip says of itself; ``None`` if it does not say."""
    if data.startswith(b"\xff\xd8"):
        from restorecli.images import jpeg

        return jpeg.size_of(data)
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        return struct.unpack_from(">II", data, 16)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        from restorecli.images import webp

        return webp.size_of(data)
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        from restorecli.images import jxl

        head = jxl.header(data)
        return head.width, head.height
    siz = data.find(b"\xff\x4f\xff\x51", 0, 4_096)
    if siz >= 0 and (siz == 0 or data[4:8] == b"jP  ") and len(data) >= siz + 24:
        right, below, left, top = struct.unpack_from(">4I", data, siz + 8)
        return right - left, below - top
    return None


class TooManyPixelsError(InputError):
    """A header promises more pixels than are allowed."""

    def __init__(self, name: str, width: int, height: int, max_pixels: int) -> None:
        super().__init__(
            f"Cannot read {name}: its header promises {width}×{height} pixels, "
            f"more than the limit of {max_pixels / 1e6:g} million.",
            hint="If the file can be trusted, raise --max-pixels.",
        )
        self.width, self.height = width, height


def too_large(name: str, width: int, height: int, max_pixels: int) -> InputError:
    """What to say of a header that promises more than the limit."""
    return TooManyPixelsError(name, width, height, max_pixels)
