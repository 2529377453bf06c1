"""XMP as bytes: what the restoration makes untrue is corrected or cut out, nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable

TURN = re.compile(r"(tiff:Orientation(?:\s*=\s*[\"']|\s*>\s*))[2-8](?=\s*[\"'<])")
WIDTHS = re.compile(r"((?:tiff:ImageWidth|exif:PixelXDimension)(?:\s*=\s*[\"']|\s*>\s*))\d+")
HEIGHTS = re.compile(r"((?:tiff:ImageLength|exif:PixelYDimension)(?:\s*=\s*[\"']|\s*>\s*))\d+")
CAMERA = "http://ns.google.com/photos/1.0/camera/"
GAIN_MAPS = "http://ns.adobe.com/hdr-gain-map/1.0/"
APPLE_GAIN_MAPS = "http://ns.apple.com/HDRGainMap/1.0/"
CONTAINER = "http://ns.google.com/photos/1.0/container/"
ITEM = "http://ns.google.com/photos/1.0/container/item/"
LONG = "http://ns.adobe.com/xmp/note/"
THUMBNAILS = "http://ns.adobe.com/xap/1.0/"
DEPTHS = "http://ns.google.com/photos/1.0/depthmap/"
MOTION_NAMES = "MotionPhoto|MotionPhotoVersion|MotionPhotoPresentationTimestampUs|MicroVideo\\w*"


def edited(xmp: bytes, change: Callable[[str], str]) -> bytes:
    """``change`` made in the encoding that the packet has; broken packets stay as they are."""
    wide = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(xmp[:2], "utf-8")
    if wide == "utf-8" and b"\0" in xmp[:4]:
        wide = "utf-16-be" if xmp[:1] == b"\0" else "utf-16-le"
    try:
        text = xmp.decode(wide)
    except UnicodeDecodeError:
        text, wide = xmp.decode("latin-1"), "latin-1"  # every byte comes back as it was
    return change(text).encode(wide)


def upright(xmp: bytes) -> bytes:
    """``xmp`` with ``tiff:Orientation`` 1, if it has one; the length stays."""
    return edited(xmp, lambda text: TURN.sub(r"\g<1>1", text))


def sized(xmp: bytes, height: int, width: int) -> bytes:
    """``xmp`` with the size of the picture as it is now, where it has one."""
    return edited(
        xmp,
        lambda text: HEIGHTS.sub(rf"\g<1>{height}", WIDTHS.sub(rf"\g<1>{width}", text)),
    )


def has(xmp: bytes | None, *words: str) -> bool:
    """Whether any of ``words`` occurs in ``xmp``."""
    return xmp is not None and any(word.encode() in xmp.replace(b"\0", b"") for word in words)


def without_motion(xmp: bytes) -> bytes:
    """``xmp`` that no longer promises a clip behind the picture."""
    return edited(
        xmp, lambda text: _without_item(_without(text, CAMERA, MOTION_NAMES), "MotionPhoto")
    )


def without_gain_map(xmp: bytes) -> bytes:
    """``xmp`` that no longer promises a gain map."""

    def change(text: str) -> str:
        for space in (GAIN_MAPS, APPLE_GAIN_MAPS):
            text = _without(text, space, r"[\w.-]+")
        return _without_item(text, "GainMap")

    return edited(xmp, change)


def without_depth(xmp: bytes) -> bytes:
    """``xmp`` that no longer promises a depth map."""
    return edited(
        xmp, lambda text: _without_item(_without(text, DEPTHS, r"[\w.-]+"), "Depth(?:Map)?")
    )


def without_long_part(xmp: bytes) -> bytes:
    """``xmp`` that no longer refers to a second packet."""
    return edited(xmp, lambda text: _without(text, LONG, "HasExtendedXMP"))


def joined(xmp: bytes, long: bytes | None) -> bytes | None:
    """One packet with what two say; ``None`` where they cannot simply be put together."""
    head = re.search(
        rb"<rdf:RDF((?:[^>\"']|\"[^\"]*\"|'[^']*')*)>(.*)</rdf:RDF\s*>", long or b"", re.DOTALL
    )
    end = re.search(rb"</rdf:RDF\s*>", xmp)
    if head is None or end is None or head.group(1).count(b"xmlns:") != 1:
        return None
    whole = xmp[: end.start()] + head.group(2) + xmp[end.start() :]
    return without_long_part(whole)


def without_thumbnails(xmp: bytes) -> bytes:
    """``xmp`` less the small pictures in it."""
    return edited(xmp, lambda text: _without(text, THUMBNAILS, "Thumbnails"))


def _without(text: str, namespace: str, names: str) -> str:
    """Cut attributes and elements of a namespace out, whatever its prefix is."""
    for prefix in set(re.findall(rf"xmlns:([\w.-]+)\s*=\s*[\"']{re.escape(namespace)}[\"']", text)):
        name = rf"{re.escape(prefix)}:(?:{names})"
        text = re.sub(rf"\s+{name}\s*=\s*(\"[^\"]*\"|'[^']*')", "", text)
        text = re.sub(rf"<({name})(?:\s[^>]*)?/>", "", text)
        text = re.sub(rf"<({name})(?:\s[^>]*)?>.*?</\1\s*>", "", text, flags=re.DOTALL)
    return text


def _without_item(text: str, semantic: str) -> str:
    """Cut the item with this meaning out of a directory; a directory of one goes altogether."""
    meaning = rf"Semantic(?:\s*=\s*[\"']|\s*>\s*){semantic}\s*[\"'<]"
    item = re.compile(r"<rdf:li\b(?:(?!</rdf:li>).)*?</rdf:li>|<rdf:li\b[^>]*/>", re.DOTALL)
    text = item.sub(lambda m: "" if re.search(meaning, m.group()) else m.group(), text)
    if semantic and not re.search(r"Semantic(?:\s*=\s*[\"']|\s*>\s*)(?!Primary)\w", text):
        text = _without(text, CONTAINER, "Directory")
    return text
