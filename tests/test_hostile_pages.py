"""Pages, sheets and scores open pictures through the one reader: what it refuses ends nothing."""

from __future__ import annotations

import ast
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

import restorecli
from restorecli.errors import InputError
from restorecli.images.seen import small_picture
from tests import kinds

PACKAGE = Path(restorecli.__file__).parent
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
XBM = b"#define a_width 8\n#define a_height 1\nstatic char a_bits[] = { 0x01 };\n"
MANY_BYTES = 100 << 20  # more than any text is inflated to


def packed_text():
    engine = zlib.compressobj()
    piece = bytes(1 << 20)
    return b"".join([*(engine.compress(piece) for _ in range(MANY_BYTES >> 20)), engine.flush()])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A folder of pictures that lie, and one good picture; each name twice, in two folders."""
    whole = kinds.png(kinds.smooth(), 8, 2)
    huge = bytearray(whole)
    huge[16:24] = struct.pack(">II", 60_000, 60_000)
    jpeg = bytearray(kinds.jpeg())
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    files = {
        "eps.png": EPS, "xbm.png": XBM, "huge.png": bytes(huge), "huge.jpg": bytes(jpeg),
        "text.png": kinds.png(kinds.smooth(), 8, 2, (b"zTXt", b"Long\0\0" + packed_text())),
        "good.png": whole, "inner.tif": kinds.inner_bomb(),
    }  # fmt: skip
    root = tmp_path_factory.mktemp("hostile")
    for folder in ("a", "b"):
        (root / folder).mkdir()
        for name, data in files.items():
            (root / folder / name).write_bytes(data)
    return root


@pytest.fixture(autouse=True)
def no_other_reader(monkeypatch):
    """No plugin of Pillow but those that the reader names is ever asked."""

    def refuse(*_, **__):
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", refuse)
    opened = Image.open

    def watched(source, mode="r", formats=None):
        assert formats, "a picture was opened with every plugin"
        assert set(formats) <= {"PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM"}
        return opened(source, mode, formats)

    monkeypatch.setattr(Image, "open", watched)


def test_a_report_shows_what_can_be_read(cli, hostile, tmp_path, identity_weights):
    page = tmp_path / "page.html"
    outcome = cli(
        "derain",
        hostile / "a",
        "-o",
        tmp_path / "out",
        "--weights",
        identity_weights,
        "--report",
        page,
    )
    assert outcome.exit_code == 1
    text = page.read_text(encoding="utf-8")
    for name in ("good.png", "text.png", "huge.png", "inner.tif"):
        assert name in text
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == {"good.png", "text.png"}


def test_compare_shows_what_can_be_read_and_a_sheet_names_what_cannot(cli, hostile, tmp_path):
    outcome = cli("compare", hostile / "a", hostile / "b", "-o", tmp_path / "page.html")
    assert outcome.exit_code in {0, 1}
    assert "good.png" in (tmp_path / "page.html").read_text(encoding="utf-8")
    outcome = cli("compare", hostile / "a", hostile / "b", "-o", tmp_path / "sheet.png")
    assert outcome.exit_code == InputError.exit_code
    assert "huge.jpg: its header promises 60000×60000 pixels" in outcome.stderr
    assert not (tmp_path / "sheet.png").exists()


def test_metrics_score_what_can_be_read(cli, hostile):
    outcome = cli("metrics", hostile / "a", "--ref", hostile / "b", "--json")
    assert outcome.exit_code == 1
    rows = {Path(row["name"]).name: row["status"] for row in outcome.lines[:-1]}
    assert {name for name, status in rows.items() if status == "ok"} == {"good.png", "text.png"}
    assert "eps.png" not in rows


def test_a_reduced_jpeg_is_upright_and_small(tmp_path):
    pixels = kinds.smooth(640, 960)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(kinds.jpeg(pixels, exif=exif.tobytes()))
    small = small_picture(tmp_path / "a.jpg", (96, 96))
    assert small.size == (64, 96)
    expected = np.rot90(pixels, -1)[5::10, 5::10].astype(int)
    assert np.abs(np.asarray(small).astype(int) - expected).mean() < 6


def test_pillow_opens_files_in_the_one_reader_only():
    for path in PACKAGE.rglob("*.py"):
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"
        ]
        room = path.relative_to(PACKAGE).as_posix()
        assert not calls or room in {"images/reading.py", "images/simple.py"}, room
        assert all(any(k.arg == "formats" for k in call.keywords) for call in calls), room
