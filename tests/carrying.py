"""Container × kind of metadata: what of it is in a result, measured by exiftool.

``python -m tests.carrying`` runs the real command and writes the table of ``docs/files.md`` anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from restorecli.images import carry, encode_photo, jpeg, jxl, lost_in, read_photo
from restorecli.images.jxl import with_parts
from restorecli.images.photo import Carried
from restorecli.networks import NETWORKS
from tests import kinds, matrix
from tests.conftest import TINY, run_command, save_weights

PAGE = Path(__file__).parents[1] / "docs" / "files.md"
START, END = "<!-- carried: python -m tests.carrying -->\n", "<!-- end of carried -->\n"
TARGETS = {
    "png": "PNG",
    "jpeg": "JPEG",
    "webp": "WebP",
    "tiff": "TIFF",
    "avif": "AVIF",
    "jxl": "JPEG XL",
}
SUFFIXES = {
    "png": ".png",
    "jpeg": ".jpg",
    "webp": ".webp",
    "tiff": ".tif",
    "avif": ".avif",
    "jxl": ".jxl",
}
NOTE = b"maker's own note"
LONG = 70_000  # characters that do not fit into one segment of a JPEG
# kind of metadata → how it is recognised in exiftool's tags, and a word of the note on its loss
MARKS = {
    "EXIF": (lambda t: t.get("IFD0:Make") == "Camera of ours", "EXIF"),
    "maker's note": (lambda t: NOTE.decode() in str(t), "maker's note"),
    "orientation": (lambda t: turns(t) == {1}, "orientation"),
    "thumbnail in EXIF": (lambda t: "IFD1:ThumbnailImage" in t, "thumbnail"),
    "place (GPS)": (lambda t: "GPS:GPSLatitude" in t, "EXIF"),
    "XMP": (lambda t: t.get("XMP-dc:Format") == "rain", "XMP"),
    "second part of XMP": (lambda t: len(str(t.get("XMP-dc:Rights"))) == LONG, "part of XMP"),
    "colour profile": (lambda t: has_icc(t), "converted to sRGB"),
    "gamma and primaries": (lambda t: "PNG:Gamma" in t, "primaries became a colour profile"),
    "IPTC": (lambda t: t.get("IPTC:By-line") == "Some Body", "IPTC"),
    "Photoshop's resources": (lambda t: t.get("Photoshop:URL") == "http://a.example", "Photoshop"),
    "comment": (lambda t: "of the picture" in comment(t), "comment"),
    "resolution": (lambda t: resolution(t) == 300, "resolution"),
    "text": (lambda t: "somebody" in str(t.get("PNG:Author")), "PNG text"),
    "other chunks": (lambda t: "PNG:ModifyDate" in t, "chunk tIME"),
    "segments of makers": (lambda t: t["bytes"].count(b"FLIR\0") == 1, "FLIR"),
    "clip behind the picture": (lambda t: t["bytes"].endswith(kinds.CLIP), "clip"),
    "other chunks of a WebP": (lambda t: b"ABCD\4\0\0\0data" in t["bytes"], "chunk ABCD"),
    "content credentials": (lambda t: b"signed here" in t["bytes"], "sign the pixels"),
    "gain map": (lambda t: "XMP-hdrgm:Version" in t, "gain map"),
    "crop and rotation of the file": (lambda t: t.get("QuickTime:Rotation"), "crop"),
    "properties of an item": (lambda t: "QuickTime:PixelAspectRatio" in t, "property pasp"),
    "layers": (lambda t: b"Adobe Photoshop " in t["bytes"], "layers"),
    "pages below the first (sub-IFDs)": (lambda t: "SubIFD:ImageWidth" in t, "sub-IFDs"),
    "tags of other programs (GeoTIFF)": (lambda t: "IFD0:PixelScale" in t, "EXIF"),
}  # fmt: skip


# What a restoration makes true by itself, so that nothing of it is left to say.
APPLIED = {"crop and rotation of the file"}


def turns(tags):
    return {value for name, value in tags.items() if name.endswith(":Orientation")}


def comment(tags):
    return str(tags.get("File:Comment", tags.get("PNG:Comment")))


def has_icc(tags):
    """Of JPEG XL its header tells; the profile itself is packed with the pixels."""
    data = tags["bytes"]
    if data[:12] == jxl.SIGNATURE or data.startswith(jxl.CODESTREAM):
        return jxl.header(data).has_profile
    return any(name.startswith("ICC") for name in tags)


def resolution(tags):
    """In pixels per inch, from whichever place tells it."""
    for name in ("PNG-pHYs:PixelsPerUnitX", "File:PixelsPerMeterX"):
        if name in tags:
            return round(tags[name] * 0.0254)
    return round(tags.get("JFIF:XResolution", tags.get("IFD0:XResolution", 0)))


def exif_with_thumbnail():
    """Turned (orientation 6), with a maker's note and a thumbnail."""
    exif = Image.Exif()
    exif.load(matrix.exif_of(6))
    exif.get_ifd(0x8769)[0x927C] = NOTE
    block = bytearray(exif.tobytes()[6:])
    small = kinds.jpeg(kinds.smooth(16, 24))
    order = "<" if block[:2] == b"II" else ">"
    first = int.from_bytes(block[4:8], "little" if order == "<" else "big")
    count = int.from_bytes(block[first : first + 2], "little" if order == "<" else "big")
    block += bytes(len(block) % 2)
    at = len(block)
    number = kinds.struct.Struct(f"{order}HHII").pack
    rows = (
        number(0x0103, 4, 1, 6) + number(0x0201, 4, 1, at + 42) + number(0x0202, 4, 1, len(small))
    )
    block += kinds.struct.pack(f"{order}H", 3) + rows + bytes(4) + small
    kinds.struct.pack_into(f"{order}I", block, first + 2 + 12 * count, at)
    return bytes(block)


def sources():
    """A file of each container with every kind of metadata that it can hold."""
    exif, small = exif_with_thumbnail(), Image.fromarray(kinds.smooth(32, 48))
    photoshop = kinds.resource(0x0404, kinds.IPTC) + kinds.resource(0x040B, b"http://a.example")
    everything = {"exif": b"Exif\0\0" + exif, "icc_profile": matrix.ICC, "xmp": matrix.XMP}
    phone = kinds.jpeg(
        kinds.smooth(32, 48), dpi=(300, 300), comment=b"of the picture", **everything
    )
    longs = np.frombuffer(kinds.IPTC + bytes(-len(kinds.IPTC) % 4), "<u4")
    tags = [
        (274, 3, 1, 6, True), (271, 2, 15, b"Camera of ours\0", True),
        (700, 1, len(matrix.XMP), matrix.XMP, True), (33723, 4, len(longs), tuple(longs), True),
        (34377, 1, len(photoshop), photoshop, True), (37724, 7, 16, b"Adobe Photoshop ", True),
    ]  # fmt: skip
    return {
        "JPEG.jpg": kinds.with_segments(
            phone, (0xE1, b"FLIR\0\1\0\0" + b"thermal"), (0xED, b"Photoshop 3.0\0" + photoshop)
        ) + kinds.CLIP,
        "PNG.png": kinds.png(
            kinds.smooth(32, 48), 8, 2, (b"iCCP", b"x\0\0" + kinds.zlib.compress(matrix.ICC)),
            (b"eXIf", exif), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + matrix.XMP),
            (b"pHYs", kinds.struct.pack(">IIB", 11_811, 11_811, 1)), (b"tEXt", b"Author\0somebody"),
            (b"tIME", kinds.struct.pack(">HBBBBB", 2020, 2, 2, 20, 20, 20)),
            (b"tEXt", b"Comment\0of the picture"),
        ),
        "WebP.webp": kinds.saved(small, "WEBP", **everything),
        "TIFF.tif": kinds.tiff(
            kinds.smooth(32, 48), photometric="rgb", resolution=(300, 300), iccprofile=matrix.ICC,
            extratags=tags,
        ),
        "AVIF.avif": kinds.saved(small, "AVIF", quality=95, **everything),
        "HEIC.heic": kinds.heic(small, **everything),
        "JPEG XL.jxl": with_parts(
            encode_jxl(), Carried(container="JXL", exif=exif, xmp=matrix.XMP)
        ),
        **more_sources(everything),
    }  # fmt: skip


def more_sources(everything):
    """Files whose kinds contradict those of the others, or that are read only."""
    small = Image.fromarray(kinds.smooth(32, 48))
    lossless = kinds.saved(small, "WEBP", lossless=True, exif=everything["exif"])
    grown = lossless + b"ABCD\4\0\0\0data" + b"C2PA\x0c\0\0\0signed here!"
    grown = grown[:4] + kinds.struct.pack("<I", len(grown) - 8) + grown[8:]
    geo = [(33550, 12, 3, (1.0, 1.0, 0.0), True), (42113, 2, 5, b"-999\0", True)]
    below = kinds.io.BytesIO()
    with kinds.tifffile.TiffWriter(below) as writer:
        writer.write(kinds.smooth(32, 48), photometric="rgb", subifds=1, extratags=geo)
        writer.write(kinds.smooth(16, 24), photometric="rgb", subfiletype=1)
    pasp = kinds.struct.pack(">II", 2, 1)
    profiled = {}
    if find_spec("pylibjxl"):
        profiled["JPEG XL (profile).jxl"] = jxl.with_profile(
            kinds.smooth(32, 48), matrix.ICC, distance=None
        )
    return {
        "JPEG (phone).jpg": kinds.gain_map(),
        "JPEG (long XMP).jpg": long_xmp(),
        "PNG (gamma).png": kinds.png(
            kinds.smooth(32, 48), 8, 2, (b"gAMA", kinds.struct.pack(">I", 55_556)), kinds.CHUNKS[0]
        ),
        "WebP (more).webp": grown,
        "TIFF (more).tif": below.getvalue(),
        "AVIF (turned).avif": kinds.with_property(kinds.cropped_avif(), "pasp", pasp),
        "GIF.gif": kinds.saved(small.quantize(100), "GIF", comment=b"of the picture"),
        "PNM.ppm": b"P6 # of the picture\n48 32\n255\n" + kinds.smooth(32, 48).tobytes(),
        "BMP.bmp": kinds.saved(small, "BMP", dpi=(300, 300)),
        **profiled,
    }  # fmt: skip


def long_xmp():
    dc = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
    long = kinds.RDF.format(f'{dc} dc:rights="{"R" * LONG}"', "").encode()
    name = hashlib.md5(long).hexdigest().upper()
    note = f'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{name}"'
    head = jpeg.LONG_XMP + name.encode() + kinds.struct.pack(">I", len(long))
    pieces = [
        (0xE1, head + kinds.struct.pack(">I", at) + long[at : at + 60_000])
        for at in range(0, len(long), 60_000)
    ]
    short = kinds.xmp_segment(kinds.RDF.format(f'{note} {dc} dc:format="rain"', ""))
    return kinds.with_segments(kinds.jpeg(), short, *pieces)


def encode_jxl():
    return bytes(kinds.imagecodecs.jpegxl_encode(kinds.smooth(32, 48), lossless=True))


def by_library(folder):
    """What the reader and the writer make of the sources: notes by source and target."""
    notes = {}
    for path in sorted((folder / "in").iterdir()):
        photo = read_photo(path)
        for target, suffix in SUFFIXES.items():
            made = folder / target / f"{path.stem}{suffix}"
            made.parent.mkdir(exist_ok=True)
            made.write_bytes(encode_photo(photo, made))
            notes[path.name, target] = [*photo.notes, *lost_in(made, photo)]
    return notes


def by_command(folder):
    """The same by the real command."""
    network = NETWORKS["hint"](**TINY)
    torch.nn.init.zeros_(network.output.weight)
    weights = save_weights(folder / "identity.safetensors", network, "hint", TINY)
    notes = {}
    for target in TARGETS:
        options = ("-o", target, "--format", target, "--weights", weights, "--json")
        ended = run_command("derain", "in", *options, cwd=folder)
        assert ended.returncode == 0, ended.stderr
        for row in [json.loads(line) for line in ended.stdout.splitlines()][:-1]:
            notes[Path(row["input"]).name, target] = row["notes"]
    return notes


def tags_of(folder):
    command = ["exiftool", "-j", "-G1", "-a", "-b", "-n", "-charset", "iptc=latin1", "-r", folder]
    found = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)
    return {
        str(Path(tags["SourceFile"]).relative_to(folder)):
        tags | {"bytes": Path(tags["SourceFile"]).read_bytes()}
        for tags in found
    }  # fmt: skip


def word(kind, before, after, notes, *, same):
    """One cell of the table."""
    is_there, told = MARKS[kind]
    if not is_there(after):
        if kind in APPLIED:
            return "applied"
        if kind == "gamma and primaries" and any(told in note for note in notes):
            return "translated, note"
        if kind == "colour profile" and any("converted to sRGB" in note for note in notes):
            return "converted, note"
        return "dropped, note" if any(told in note for note in notes) else "DROPPED SILENTLY"
    if kind == "orientation":
        return "corrected"
    if kind == "thumbnail in EXIF":
        is_new = after["IFD1:ThumbnailImage"] != before["IFD1:ThumbnailImage"]
        return "made anew" if is_new else "KEPT AS IT WAS"
    in_other_place = {
        "comment", "resolution", "IPTC", "Photoshop's resources", "second part of XMP"
    }  # fmt: skip
    return "translated" if kind in in_other_place and not same else "kept"


def table(folder, notes):
    """Rows: what each container holds; columns: the formats of the result."""
    tags = tags_of(folder)
    lines = ["| from | kind | " + " | ".join(f"to {t}" for t in TARGETS.values()) + " |"]
    lines.append("|" + "---|" * (2 + len(TARGETS)))
    for name in sorted(path.name for path in (folder / "in").iterdir()):
        before = tags[f"in/{name}"]
        for kind, (is_there, _) in MARKS.items():
            if kind == "orientation":
                held = bool(turns(before)) and Path(name).suffix not in {".avif", ".heic"}
                held = held and "(" not in name  # of more files, only what they add
            else:
                held = is_there(before)
            if not held:
                continue
            cells = []
            for target, title in TARGETS.items():
                after = tags[f"{target}/{Path(name).stem}{SUFFIXES[target]}"]
                same = title == Path(name).stem.partition(" (")[0]
                cells.append(word(kind, before, after, notes[name, target], same=same))
            lines.append(f"| {Path(name).stem} | {kind} | " + " | ".join(cells) + " |")
    untrue = [f"- {what}: {done}." for what, done in carry.UNTRUE.items()]
    return "\n".join([*lines, "", "What the restoration makes untrue:", "", *untrue]) + "\n"


def rewritten(text, new):
    before, _, rest = text.partition(START)
    return before + START + new + END + rest.partition(END)[2]


def write_sources(folder):
    (folder / "in").mkdir()
    for name, data in sources().items():
        (folder / "in" / name).write_bytes(data)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as scratch:
        write_sources(Path(scratch))
        made = table(Path(scratch), by_command(Path(scratch)))
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    sys.stdout.write(made)
