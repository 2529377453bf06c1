"""What of a file is carried into its result: the one place that decides it.

Everything that is not pixels travels as bytes into a file of the same container. What the
restoration makes untrue is corrected, made anew or left behind with a note (`UNTRUE`); what
another container has a place for is translated (`PLACES`), and the rest left behind with a note.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from restorecli.images import ifd, jpeg, photoshop, xmp
from restorecli.images.photo import Carried, Part, Photo

UNTRUE = {
    "orientation": "set to 1 in EXIF and XMP: the pixels are upright",
    "size in pixels": "corrected in EXIF and XMP",
    "thumbnail in EXIF": "made anew: small, upright, restored; TIFF has no place for it",
    "other thumbnails and previews": "dropped with a note",
    "gain map": "dropped with a note; XMP no longer announces it",
    "depth map": "kept in XMP unless the picture was turned, else dropped with a note",
    "further pictures": "dropped with a note; refused with --in-place",
    "content credentials (C2PA)": "dropped with a note: they sign the pixels as they were",
}
PLACES = {  # kind of metadata → containers that have a place for it
    "EXIF": {"PNG", "JPEG", "WEBP", "TIFF", "AVIF", "JXL"},
    "XMP": {"PNG", "JPEG", "WEBP", "TIFF", "AVIF", "JXL"},
    "colour profile": {"PNG", "JPEG", "WEBP", "TIFF", "AVIF"},
    "IPTC and Photoshop's resources": {"JPEG", "TIFF", "PNG"},
    "comment": {"JPEG", "PNG"},
    "resolution": {"PNG", "JPEG", "TIFF", "BMP"},
    "clip behind the picture": {"JPEG"},
}
LONGEST_EXIF = jpeg.LONGEST - len(jpeg.EXIF)
THUMBNAIL_PX, THUMBNAIL_QUALITY = 160, 85
IPTC_TAG, PHOTOSHOP_TAG = 0x83BB, 0x8649
WASTED_BYTES = 1_024  # of an EXIF block that need not be avoided
TRANSLATED = {"cICP", "gAMA", "cHRM", "sRGB"}  # as colours or as a profile
SIGNATURES = {"C2PA", "jumb"}  # of WebP and JPEG XL
GAIN_MAP_WORDS = (b"hdr-gain-map", b"HDRGainMap", b"hdrgainmap")
PICTURE_ENTRIES = 0xB002  # of the directory of a multi-picture file
KINDS_OF_APP = (
    (jpeg.EXIF, "a second EXIF block"),
    (b"FLIR\0", "FLIR's thermal data"),
    (b"FPXR\0", "FlashPix data"),
    (b"Ducky", "Photoshop's save-for-web data"),
)


@dataclass(slots=True)
class Arrived:
    """What reading a file found, with what has already been left behind."""

    carried: Carried
    notes: tuple[str, ...] = ()
    lost_pictures: int = 0


def of_jpeg(segments: jpeg.Segments) -> Arrived:
    """What a JPEG carries, less what the restoration makes untrue."""
    carried, notes = jpeg.carried(segments), []
    if among := jpeg.among_scans(segments.pixels):
        notes.append(f"{among} segment(s) between its scans are not kept")
    pictures, trailer = jpeg.pictures_behind(segments.behind)
    packet = carried.xmp
    kept: list[Part] = []
    for part in carried.parts:
        if part.name == "APP2" and part.data.startswith(jpeg.MPF):
            continue  # the directory of pictures that stay behind
        if part.name == "APP0" and part.data.startswith(b"JFXX\0"):
            notes.append("the thumbnail in its JFIF extension is not kept")
        elif part.name == "APP11" and part.data.startswith(b"JP"):
            notes.append("its content credentials sign the pixels as they were; not kept")
        elif part.name == "APP0" and part.data.startswith(b"JFIF\0") and any(part.data[12:14]):
            notes.append("the thumbnail in its JFIF header is not kept")
            kept.append(Part(part.name, part.data[:12] + b"\0\0"))
        elif part.name == "APP0" and part.data.startswith(b"JFIF\0"):
            if len(part.data) >= 14:
                kept.append(part)
        elif part.name == "APP1" and part.data.startswith(jpeg.EXIF):
            kept.append(Part(part.name, jpeg.EXIF + ifd.upright(part.data[len(jpeg.EXIF) :])))
        elif part.name != "APP14" or not part.data.startswith(jpeg.ADOBE):
            kept.append(part)
    if packet and xmp.has(packet, xmp.GAIN_MAPS, xmp.APPLE_GAIN_MAPS, "GainMap"):
        packet = xmp.without_gain_map(packet)
    lost, more = _pictures(pictures, segments, announced=packet != carried.xmp)
    carried = replace(carried, xmp=packet, parts=tuple(kept), trailer=trailer)
    return settled(carried, [*notes, *more], lost_pictures=lost)


def _pictures(
    pictures: Sequence[bytes], segments: jpeg.Segments, *, announced: bool
) -> tuple[int, list[str]]:
    """How many pictures behind the first one are whole pictures of their own, and notes on all.

    A gain map says so in its own XMP, or is ``announced`` in that of the picture; previews are
    called so in the directory of the multi-picture format (CIPA DC-007).
    """
    notes = []
    gains = sum(any(word in one[: 1 << 16] for word in GAIN_MAP_WORDS) for one in pictures)
    gains = max(gains, int(announced and bool(pictures)))
    if gains:
        notes.append("its gain map does not fit the restored picture and is not kept")
    previews = min(_previews(segments), len(pictures) - gains)
    if previews:
        notes.append(f"{previews} preview(s) behind it, which show it as it was, are not kept")
    lost = len(pictures) - gains - previews
    if lost:
        notes.append(f"{lost} further picture(s) behind the first one are not kept")
    return lost, notes


def _previews(segments: jpeg.Segments) -> int:
    """How many pictures the directory of a multi-picture file calls previews."""
    content = next((c for m, c in segments.before if m == 0xE2 and c.startswith(jpeg.MPF)), b"")
    block = ifd.block_of(content[len(jpeg.MPF) :])
    entry = block.first().find(PICTURE_ENTRIES) if block else None
    if block is None or entry is None:
        return 0
    value = block.value(entry)
    kinds = [
        int.from_bytes(value[at : at + 4], "little" if block.order == "<" else "big") & 0xFFFFFF
        for at in range(0, len(value) - 15, 16)
    ]
    return sum(kind >> 16 == 1 for kind in kinds[1:])


def settled(carried: Carried, notes: Sequence[str] = (), *, lost_pictures: int = 0) -> Arrived:
    """``carried`` less thumbnails that cannot be made anew; broken blocks stay as they are."""
    told = list(notes)
    if carried.photoshop and photoshop.has_thumbnail(carried.photoshop):
        told.append("the thumbnail among Photoshop's resources is not kept")
        carried = replace(carried, photoshop=photoshop.without_thumbnail(carried.photoshop))
    for part in carried.parts:
        if part.name in SIGNATURES:
            told.append("its content credentials sign the pixels as they were; not kept")
    carried = replace(carried, parts=tuple(p for p in carried.parts if p.name not in SIGNATURES))
    if carried.photoshop and not carried.iptc:
        carried = replace(carried, iptc=photoshop.iptc_in(carried.photoshop))
    if carried.xmp and xmp.has(carried.xmp, ":Thumbnails"):
        told.append("the thumbnail in XMP is not kept")
        carried = replace(carried, xmp=xmp.without_thumbnails(carried.xmp))
    if carried.exif and ifd.thumbnail_size(carried.exif) == 0:
        told.append("the thumbnail in EXIF, which is no JPEG, is not kept")
        carried = replace(carried, exif=ifd.with_thumbnail(carried.exif, None, (0, 0)))
    return Arrived(carried, tuple(told), lost_pictures)


def upright(arrived: Arrived, *, was_turned: bool) -> Arrived:
    """The same for pixels that have been turned: nothing asks to turn them once more."""
    carried, notes = arrived.carried, list(arrived.notes)
    exif = ifd.upright(carried.exif) if carried.exif else None
    packet = carried.xmp
    if packet and exif and ifd.says_orientation(exif):
        packet = xmp.upright(packet)
    if packet and was_turned:
        packet = xmp.upright(packet)
        if xmp.has(packet, xmp.DEPTHS):
            notes.append("its depth map was not turned with the picture and is not kept")
            packet = xmp.without_long_part(xmp.without_depth(packet))
            parts = tuple(p for p in carried.parts if not p.data.startswith(jpeg.LONG_XMP))
            carried = replace(carried, parts=parts)
    carried = replace(carried, exif=exif, xmp=packet, was_turned=was_turned)
    return Arrived(carried, tuple(notes), arrived.lost_pictures)


def moved(carried: Carried, kind: str) -> tuple[Carried, tuple[str, ...]]:
    """What a file of format ``kind`` gets of ``carried``, and notes on what stays behind."""
    notes: list[str] = []
    if carried.container != kind:
        carried = _with_long_xmp(carried)
        notes += [
            f"{name} is not kept: {kind} has no place for it" for name in _left(carried, kind)
        ]
        xmp_bytes = carried.xmp
        if carried.trailer and xmp_bytes:
            xmp_bytes = xmp.without_motion(xmp_bytes)
        if xmp_bytes and any(p.data.startswith(jpeg.LONG_XMP) for p in carried.parts):
            xmp_bytes = xmp.without_depth(xmp.without_long_part(xmp_bytes))
        carried = replace(carried, xmp=xmp_bytes, parts=(), trailer=b"")
        carried, more = _translated(carried, kind)
        notes += more
    if kind == "TIFF" and carried.exif and ifd.thumbnail_size(carried.exif) is not None:
        # A second directory would make it a TIFF of two pages.
        carried = replace(carried, exif=ifd.with_thumbnail(carried.exif, None, (0, 0)))
        notes.append("thumbnail in EXIF: not kept, as TIFF has no place for it")
    if kind == "JPEG" and carried.container != kind:  # there it came in several segments
        carried, more = _short_enough(carried)
        notes += more
    return carried, tuple(notes)


def _with_long_xmp(carried: Carried) -> Carried:
    """``carried`` with both packets of a JPEG's XMP in one, as other containers hold it."""
    pieces = [p.data for p in carried.parts if p.data.startswith(jpeg.LONG_XMP)]
    whole = xmp.joined(carried.xmp, jpeg.long_xmp(pieces)) if carried.xmp and pieces else None
    if whole is None:
        return carried
    parts = tuple(p for p in carried.parts if p.data not in pieces)
    return replace(carried, xmp=whole, parts=parts)


def _left(carried: Carried, kind: str) -> Iterator[str]:
    held = {
        "EXIF": carried.exif,
        "XMP": carried.xmp,
        "IPTC and Photoshop's resources": carried.iptc or carried.photoshop,
        "comment": carried.comment,
        "clip behind the picture": carried.trailer,
        "resolution": None if _says_resolution(carried) else carried.dpi,
    }
    for name, value in held.items():
        if value and kind not in PLACES[name]:
            yield name
    yield from dict.fromkeys(
        told for part in carried.parts if (told := named(part, carried)) is not None
    )


def _says_resolution(carried: Carried) -> bool:
    """Whether nothing is lost without a field of its own: EXIF says it, or it is the default."""
    if carried.dpi and {round(value) for value in carried.dpi} <= {1, 72}:
        return True
    block = ifd.block_of(carried.exif) if carried.exif else None
    return block is not None and block.first().find(ifd.X_RESOLUTION) is not None


def named(part: Part, carried: Carried) -> str | None:
    """What a part is called in a note; ``None`` for what is translated or says nothing."""
    if carried.container == "JPEG":
        if part.name == "COM" and part.data == carried.comment:
            return None
        if part.name == "COM":
            return "a further comment"
        if part.data.startswith(b"JFIF\0"):
            return None
        if part.data.startswith(jpeg.LONG_XMP):
            return "the second part of XMP"
        kinds = (name for start, name in KINDS_OF_APP if part.data.startswith(start))
        return next(kinds, f"segment {part.name}")
    if part.name == "pHYs" and carried.dpi:
        return None
    if part.name in TRANSLATED or (part.data == b"Comment\0" + (carried.comment or b"\0")):
        return None
    if part.name in {"tEXt", "zTXt", "iTXt"}:
        return "PNG text"
    return part.name.strip() if part.name.startswith("property") else f"chunk {part.name.strip()}"


def _translated(carried: Carried, kind: str) -> tuple[Carried, list[str]]:
    """``carried`` in the fields that ``kind`` has a place for."""
    notes = []
    exif = carried.exif
    if carried.container == "TIFF" and exif:
        exif = ifd.without(exif, {IPTC_TAG, PHOTOSHOP_TAG}, inner=False)
        if len(exif) > WASTED_BYTES and carried.exif_gap[1] - carried.exif_gap[0] > WASTED_BYTES:
            exif, _ = ifd.copied(exif, (), holds_note=False)
            notes.append("the maker's note was moved: offsets in it may point elsewhere")
    iptc = photoshop.in_file_order(carried.iptc) if carried.iptc else None
    resources = carried.photoshop or b""
    if iptc and kind in {"JPEG", "PNG"}:
        resources = photoshop.with_iptc(resources, iptc)
    keeps_iptc = kind in PLACES["IPTC and Photoshop's resources"]
    carried = replace(
        carried,
        exif=exif if kind in PLACES["EXIF"] else None,
        exif_gap=(0, 0),
        xmp=carried.xmp if kind in PLACES["XMP"] else None,
        iptc=iptc if keeps_iptc else None,
        photoshop=(resources or None) if keeps_iptc else None,
        comment=carried.comment if kind in PLACES["comment"] else None,
    )
    return carried, notes


def _short_enough(carried: Carried) -> tuple[Carried, list[str]]:
    """``carried`` with EXIF that fits into one segment, which is all that most programs read."""
    notes = []
    exif = carried.exif
    if exif and len(exif) > LONGEST_EXIF:
        exif, _ = ifd.copied(exif, (), holds_note=False)
    if exif and len(exif) > LONGEST_EXIF:
        exif = ifd.without(exif, {ifd.MAKER_NOTE})
        exif, _ = ifd.copied(exif, (), holds_note=False)
        notes.append("the maker's note is not kept: EXIF would be too long for JPEG")
    if exif and len(exif) > LONGEST_EXIF:
        exif = None
        notes.append("EXIF is not kept: it is too long for JPEG")
    return replace(carried, exif=exif or None), notes


def true_of(carried: Carried, photo: Photo) -> Carried:
    """``carried`` with what it says of the pixels made true of ``photo``."""
    height, width = photo.size
    exif, packet = carried.exif, carried.xmp
    if exif:
        exif = ifd.sized(exif, height, width)
        if ifd.thumbnail_size(exif):
            exif = ifd.with_thumbnail(exif, *_thumbnail(photo))
    if packet:
        packet = xmp.sized(packet, height, width)
    return replace(carried, exif=exif, xmp=packet)


def _thumbnail(photo: Photo) -> tuple[bytes, tuple[int, int]]:
    """A small JPEG of ``photo`` and its (height, width)."""
    height, width = photo.size
    step = max(1, min(height, width) // (2 * THUMBNAIL_PX))
    small = replace(
        photo,
        pixels=np.ascontiguousarray(photo.pixels[::step, ::step]),
        alpha=None,
        carried=Carried(),
    )
    picture = Image.fromarray(small.in_depth(np.uint8).pixels)
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), reducing_gap=None)
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=THUMBNAIL_QUALITY)
    return target.getvalue(), (picture.height, picture.width)
