"""The matrix of formats: how its pictures are made, without our own code, and its page.

``python -m tests.matrix`` restores every picture with a network that changes nothing and writes
``docs/formats.md`` from what came back.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import tempfile
import zlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
import torch
from PIL import Image, ImageCms, PngImagePlugin

from restorecli.images import read_photo
from restorecli.networks import NETWORKS
from tests.conftest import TINY, run_command, save_weights

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "formats.md"
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="rain"/>'
    b"</rdf:RDF></x:xmpmeta>"
)
CHANNELS = {"gray": 1, "gray + alpha": 2, "RGB": 3, "RGBA": 4, "palette": 3, "palette + alpha": 4}
TYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}
COMBINATIONS = {
    "png": [
        *((kind, 8) for kind in CHANNELS),
        *((kind, 16) for kind in ("gray", "gray + alpha", "RGB", "RGBA")),
    ],
    "tif": [
        *((kind, 8) for kind in ("gray", "gray + alpha", "RGB", "RGBA", "palette")),
        *((kind, bits) for bits in (16, 32) for kind in ("gray", "gray + alpha", "RGB", "RGBA")),
    ],
    "jpg": [("gray", 8), ("RGB", 8)],
    "webp": [("RGB", 8), ("RGBA", 8)],
    "avif": [("gray", 8), ("RGB", 8), ("RGBA", 8)],
    "bmp": [("gray", 8), ("RGB", 8), ("palette", 8)],
    "jxl": [("gray", 8), ("RGB", 8), ("RGBA", 8), ("RGB", 16), ("gray + alpha", 16), ("RGB", 32)],
}


@dataclass(frozen=True)
class Case:
    suffix: str
    kind: str
    bits: int
    orientation: int
    tagged: bool  # EXIF, XMP, profile, resolution

    @property
    def name(self):
        kind = self.kind.replace(" + ", "_")
        return f"{kind}{self.bits}_{self.orientation}{'_tagged' * self.tagged}.{self.suffix}"

    @property
    def lossless(self):
        return self.suffix not in {"jpg", "avif"}


def cases(*, every):
    """All, or two of each combination, in which every format meets every orientation."""
    chosen = []
    for suffix, combinations in COMBINATIONS.items():
        can_turn = suffix not in {"bmp", "jxl"}  # the latter says it in its codestream
        for i, (kind, bits) in enumerate(combinations):
            turns = range(1, 9) if every or (kind == "RGB" and bits == 8) else {1, 2 + i % 7}
            for orientation in turns if can_turn else {1}:
                chosen += [
                    Case(suffix, kind, bits, orientation, tagged)
                    for tagged in ([False, True] if can_turn else [False])
                    if tagged or orientation == 1  # the tag is metadata itself
                ]
    return chosen


def planes_of(case):
    """Smooth and detailed, (19, 27, channels) as stored: not yet turned."""
    rng = np.random.default_rng(case.bits)
    rows, columns = np.mgrid[:19, :27]
    channels = CHANNELS[case.kind]
    values = np.stack([(rows * (3 + c) + columns * (5 - c)) / 200 for c in range(channels)], -1)
    values = np.clip(values + rng.random(values.shape) / 20, 0, 1)
    if channels in {2, 4}:
        values[..., -1] = (rows + columns) / 44
        values[:4, :4, -1] = 0
    if case.bits == 32:
        return values.astype(np.float32)
    return np.rint(values * (2**case.bits - 1)).astype(TYPES[case.bits])


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Camera of ours"
    inner = exif.get_ifd(0x8769)
    inner[0x9003] = "2020:02:02 20:20:20"
    inner[0xA431] = "SERIAL-42"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 8.0, 15.0)
    return exif.tobytes()


def icc_of(case):
    """A profile for colours; those for gray are rare, and ours would not fit."""
    return None if case.kind.startswith("gray") else ICC


def write_case(case, folder):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / case.name
    planes = planes_of(case)
    squeezed = planes[..., 0] if planes.shape[2] == 1 else planes
    if case.suffix == "jxl":
        path.write_bytes(imagecodecs.jpegxl_encode(squeezed, lossless=True))
    elif case.suffix == "tif" and (case.bits > 8 or case.kind == "gray + alpha"):
        path.write_bytes(_tiff(case, squeezed))
    elif case.bits == 16:
        path.write_bytes(_deep_png(case, squeezed))
    else:
        picture = Image.fromarray(squeezed)
        if case.kind == "palette":
            picture = picture.quantize(200)
        elif case.kind == "palette + alpha":
            picture = picture.quantize(200, Image.Quantize.FASTOCTREE)
        picture.save(path, **_options(case))


def _options(case):
    options = {"lossless": True, "exact": True} if case.suffix == "webp" else {}
    if case.suffix == "tif" and not case.tagged:
        options["compression"] = "tiff_lzw"
    if not case.tagged:
        return options
    options |= {"exif": exif_of(case.orientation), "icc_profile": icc_of(case)}
    if case.suffix in {"png", "jpg", "tif"}:
        options["dpi"] = (300, 300)
    if case.suffix == "png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"].add_text("Author", "somebody")
    elif case.suffix == "tif":
        exif = Image.Exif()
        exif.load(options["exif"])
        exif[700] = XMP
        options["exif"] = exif
    else:
        options["xmp"] = XMP
    return options


def _tiff(case, planes):
    stream = io.BytesIO()
    options = {"photometric": "minisblack" if CHANNELS[case.kind] < 3 else "rgb"}
    if CHANNELS[case.kind] in {2, 4}:
        options["extrasamples"] = ["unassalpha"]
    if CHANNELS[case.kind] == 2:
        options["planarconfig"] = "contig"
    if case.tagged:
        options |= {
            "resolution": (300, 300),
            "iccprofile": icc_of(case),
            "extratags": [
                (271, 2, None, "Camera of ours", True),
                (274, 3, 1, case.orientation, True),
                (700, 1, len(XMP), XMP, True),
            ],
        }
    tifffile.imwrite(stream, planes, byteorder=">", compression="lzw", metadata=None, **options)
    return stream.getvalue()


def _deep_png(case, planes):
    data = bytes(imagecodecs.png_encode(planes))
    chunks = []
    if case.tagged:
        profile = icc_of(case)
        chunks = [(b"iCCP", b"p\0\0" + zlib.compress(profile))] if profile else []
        chunks += [
            (b"eXIf", exif_of(case.orientation).removeprefix(b"Exif\0\0")),
            (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
            (b"tEXt", b"Author\0somebody"),
            (b"pHYs", struct.pack(">IIB", 11811, 11811, 1)),
        ]
    packed = b"".join(
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    )
    return data[:33] + packed + data[33:]


def restore_all(chosen, folder):
    """Run the real command once over every case; the folder of the results."""
    network = NETWORKS["hint"](**TINY)
    torch.nn.init.zeros_(network.output.weight)
    weights = save_weights(folder / "identity.safetensors", network, "hint", TINY)
    for case in chosen:
        write_case(case, folder / "in")
    ended = run_command("derain", "in", "-o", "out", "--weights", weights, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return folder / "out"


def page(chosen, before, after):
    """What survived, as Markdown: every word is measured."""
    rows = defaultdict(list)
    for case in chosen:
        rows[case.suffix, case.kind, case.bits].append(case)
    lines = []
    for (suffix, kind, bits), members in rows.items():
        photos = [(read_photo(before / c.name), read_photo(after / c.name)) for c in members]
        exact = all(np.array_equal(a.pixels, b.pixels) for a, b in photos)
        alphas = [(a.alpha, b.alpha) for a, b in photos if a.alpha is not None]
        same_alpha = all(np.array_equal(a, b) for a, b in alphas)
        alpha = ("exact" if same_alpha else "coded again") if alphas else "–"
        kept = [(a.carried, b.carried) for a, b in photos]
        tagged = [c for c in members if c.tagged]
        fields = {
            "EXIF": all(a.exif == b.exif for a, b in kept),
            "XMP": all(a.xmp == b.xmp for a, b in kept),
            "ICC": all(a.icc_profile == b.icc_profile for a, b in kept),
            "dpi": all(a.dpi == b.dpi for a, b in kept),
        }
        metadata = ", ".join(n for n, same in fields.items() if same) if tagged else "–"
        other = [n for n, same in fields.items() if not same and tagged]
        metadata += f"; {', '.join(other)} rewritten" if other else ""
        after_bits = {b.bits for _, b in photos}
        turned = sorted({c.orientation for c in members})
        lines.append(
            f"| {suffix} | {kind} | {bits} | {', '.join(map(str, after_bits))} | "
            f"{'exact' if exact else 'coded again'} | "
            f"{alpha} | "
            f"{metadata} | {turned[0]}{f'…{turned[-1]}' if len(turned) > 1 else ''} |"
        )
    return HEAD + "\n".join(lines) + "\n"


HEAD = """# What survives

Written by `python -m tests.matrix`, which restores every combination with a network that changes
nothing and compares what came back; do not edit. How files are treated in general is told in
[files.md](files.md).

| format | channels | bits in | bits out | pixels | alpha | kept byte for byte | orientations |
|---|---|---|---|---|---|---|---|
"""

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    chosen = cases(every=True)
    with tempfile.TemporaryDirectory() as scratch:
        results = restore_all(chosen, Path(scratch))
        PAGE.write_text(page(chosen, Path(scratch) / "in", results), encoding="utf-8")
    sys.stdout.write(f"{len(chosen)} pictures → {PAGE}\n")
