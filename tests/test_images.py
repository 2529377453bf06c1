from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from restorecli.errors import InputError, OutputError
from restorecli.files.atomic import HOST, remove_partials, write_atomically
from restorecli.images import encode_photo, identify, ifd, read_photo, write_photo, xmp
from restorecli.images.tensors import to_pixels, to_tensor
from tests.conftest import pixels_of

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6">rain</x:xmpmeta>'


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Camera of ours"
    return exif.tobytes()


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once_and_its_tag_reset(tmp_path, picture, kind, orientation):
    path, again = tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    lossless = {"lossless": True} if kind == "webp" else {}
    Image.fromarray(picture(24, 40)).save(path, exif=exif_of(orientation), **lossless)
    photo = read_photo(path)
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(photo.pixels, expected)
    write_photo(photo, again, overwrite=False)
    with Image.open(again) as opened:
        assert opened.getexif().get(0x0112) == 1
        assert opened.getexif().get(0x010F) == "Camera of ours"
        assert opened.size == photo.size[::-1]
    if kind != "jpg":
        np.testing.assert_array_equal(pixels_of(again), expected)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_exif_xmp_icc_and_resolution_are_kept(tmp_path, picture, kind):
    path, again = tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    options = {"exif": exif_of(1), "icc_profile": SRGB}
    if kind == "png":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options |= {"pnginfo": text, "dpi": (300, 300)}
    else:
        options |= {"xmp": XMP}
        if kind == "jpg":
            options |= {"dpi": (300, 300)}
    Image.fromarray(picture(16, 16)).save(path, **options)
    write_photo(read_photo(path), again, overwrite=False)
    with Image.open(path) as source, Image.open(again) as result:
        result.load()
        assert result.info["exif"] == source.info["exif"]
        assert result.info["icc_profile"] == SRGB
        assert XMP.replace(b'"6"', b'"1"') in _bytes(result.info["xmp"])
        assert result.info.get("dpi") == source.info.get("dpi")


def _bytes(value):
    return value.encode() if isinstance(value, str) else value


def test_resetting_the_orientation_changes_nothing_else():
    for order in ("<", ">"):
        entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, 6, 0)
        other = struct.pack(f"{order}HHII", 0x8769, 4, 1, 99)
        head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
        exif = head + struct.pack(f"{order}H", 2) + entry + other + b"maker note"
        upright = ifd.upright(exif)
        assert len(upright) == len(exif)
        at = exif.index(entry)
        assert upright[:at] == exif[:at]
        assert upright[at + 12 :] == exif[at + 12 :]
        assert struct.unpack_from(f"{order}H", upright, at + 8) == (1,)


@given(st.binary(max_size=60))
def test_broken_exif_and_xmp_stay_as_they_are_in_length(data):
    assert len(ifd.upright(b"II" + data)) == len(data) + 2
    assert len(xmp.upright(data)) == len(data)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["png", "webp"])
def test_gray_colour_and_alpha_survive_without_loss(tmp_path, picture, mode, kind):
    path, again = tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    planes = picture(12, 20)
    rgba = Image.fromarray(np.dstack([planes, planes[..., 0]]))
    rgba.convert(mode).save(path, **({"lossless": True, "exact": True} if kind == "webp" else {}))
    photo = read_photo(path)
    write_photo(photo, again, overwrite=False)
    np.testing.assert_array_equal(pixels_of(again), pixels_of(path))
    assert (photo.alpha is not None) == mode.endswith("A")
    if kind == "png":
        assert photo.is_gray == mode.startswith("L")
        with Image.open(again) as opened:
            assert opened.mode == mode


def test_palettes_with_and_without_transparency_become_full_colour(tmp_path, picture):
    path = tmp_path / "palette.png"
    palette = Image.fromarray(picture(10, 10)).quantize(16)
    palette.save(path)
    np.testing.assert_array_equal(read_photo(path).pixels, np.asarray(palette.convert("RGB")))
    palette.save(path, transparency=3)
    photo = read_photo(path)
    with Image.open(path) as opened:
        expected = np.asarray(opened.convert("RGBA"))
    np.testing.assert_array_equal(np.dstack([photo.pixels, photo.alpha]), expected)


@pytest.mark.parametrize(("quality", "subsampling"), [(60, 2), (92, 1), (99, 0)])
def test_a_jpeg_is_never_written_coarser_than_it_came(tmp_path, picture, quality, subsampling):
    path, again, floor = (tmp_path / name for name in ("a.jpg", "b.jpg", "floor.jpg"))
    pixels = Image.fromarray(picture(32, 32))
    pixels.save(path, quality=quality, subsampling=subsampling)
    pixels.save(floor, quality=max(quality, 95), subsampling=0)
    photo = read_photo(path)
    write_photo(photo, again, overwrite=True)
    with Image.open(floor) as expected, Image.open(again) as result:
        assert result.quantization == expected.quantization
        assert result.layer == expected.layer
    again.write_bytes(encode_photo(photo, again, jpeg_quality="source"))
    with Image.open(path) as source, Image.open(again) as result:
        assert result.quantization == source.quantization
        assert result.layer == source.layer
    again.write_bytes(encode_photo(photo, again, jpeg_quality=80))
    with Image.open(again) as result:
        pixels.save(floor, quality=80)
        with Image.open(floor) as expected:
            assert result.quantization == expected.quantization


def animated(path):
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def deep(path):
    import cv2

    values = np.full((8, 8, 3), 40_000, np.uint16)
    path.write_bytes(cv2.imencode(".png", values)[1].tobytes())


def bomb(path):
    Image.new("L", (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    import zlib

    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(bytes(data))


def cut(path):
    target = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(target, "JPEG")
    path.write_bytes(target.getvalue()[:900])


def pages(path):
    one = Image.new("RGB", (8, 8))
    one.save(path, save_all=True, append_images=[one])


@pytest.mark.parametrize(
    ("name", "make", "sentence"),
    [
        ("text.png", lambda p: p.write_text("hello"), "not an image"),
        ("page.jpg", lambda p: p.write_text("\n<!DOCTYPE HTML>"), "web page"),
        (
            "lfs.png",
            lambda p: p.write_text("version https://git-lfs.github.com/spec/v1"),
            "Git LFS",
        ),
        ("._a.jpg", lambda p: p.write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X"), "AppleDouble"),
        ("targa.png", lambda p: Image.new("RGB", (8, 8)).save(p, "TGA"), "Targa"),
        (
            "targa.jpg",
            lambda p: Image.new("L", (9, 8)).save(p, "TGA", compression="tga_rle"),
            "Targa",
        ),
        ("cursor.png", lambda p: p.write_bytes(b"\0\0\2\0\1\0\x20\x20" + bytes(60)), "cursor"),
        ("icon.png", lambda p: Image.new("RGB", (32, 32)).save(p, "ICO"), "icon"),
        ("silicon.png", lambda p: Image.new("RGB", (8, 8)).save(p, "SGI"), "SGI"),
        ("empty.jpg", lambda p: p.write_bytes(b""), "0 bytes"),
        ("cut.jpg", cut, "damaged or truncated"),
        ("folder.png", lambda p: p.mkdir(), "folder"),
        ("missing.png", lambda p: None, "no such file"),
        ("link.png", lambda p: p.symlink_to("nowhere.png"), "link to nowhere.png"),
        ("moving.webp", animated, "animated"),
        ("moving.png", animated, "animated"),
        ("pages.tif", pages, "2 pages"),
        ("print.jpg", lambda p: Image.new("CMYK", (8, 8)).save(p), "CMYK"),
        ("print.tif", lambda p: Image.new("CMYK", (8, 8)).save(p), "CMYK"),
        ("bomb.png", bomb, "60000×60000"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_sentence(tmp_path, name, make, sentence):
    path = tmp_path / name
    make(path)
    with pytest.raises(InputError, match=sentence) as refused:
        read_photo(path)
    assert name in refused.value.message


def test_sixteen_bits_go_in_and_come_out(cli, tmp_path, identity_weights):
    path = tmp_path / "deep.png"
    deep(path)
    assert cli("derain", path, "--weights", identity_weights).exit_code == 0
    restored = read_photo(tmp_path / "deep.derain.png")
    assert restored.pixels.dtype == np.uint16
    assert (restored.pixels == 40_000).all()


def test_type_is_decided_by_content(tmp_path, picture):
    path = tmp_path / "really_a_png.jpg"
    Image.fromarray(picture(8, 8)).save(path, "PNG")
    assert identify(path) == "PNG"
    assert read_photo(path).size == (8, 8)


def test_a_result_never_replaces_a_file_unasked(tmp_path, picture, photo_file):
    photo = read_photo(photo_file())
    target = tmp_path / "there.png"
    target.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        write_photo(photo, target, overwrite=False)
    assert target.read_bytes() == b"precious"
    write_photo(photo, target, overwrite=True)
    np.testing.assert_array_equal(pixels_of(target), photo.pixels)


def test_transparency_is_not_lost_to_jpeg(tmp_path, picture):
    path = tmp_path / "a.png"
    Image.fromarray(picture(8, 8)).convert("RGBA").save(path)
    with pytest.raises(OutputError, match="transparency"):
        write_photo(read_photo(path), tmp_path / "b.jpg", overwrite=False)
    assert not (tmp_path / "b.jpg").exists()


def test_a_failed_write_leaves_neither_result_nor_remains(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="No space left"):
        write_atomically(target, b"new", overwrite=True)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_of_many_writers_of_one_name_exactly_one_wins(tmp_path):
    target = tmp_path / "a.bin"
    failures = []

    def write(content):
        try:
            write_atomically(target, content, overwrite=False)
        except OutputError:
            failures.append(content)

    contents = [bytes([i]) * 1000 for i in range(8)]
    threads = [threading.Thread(target=write, args=(c,)) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) == 7
    assert target.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_process_writes_while_it_is_ending_is_removed_as_well(tmp_path):
    """A worker that was told to end may begin a file after everybody believes it gone."""
    code = """if True:
        import os, sys, time
        stem = f".restore-{sys.argv[1]}-{os.getpid()}-"
        for number in range(5):
            open(f"{stem}{number:016x}.partial", "w").close()
            print(flush=True)
            time.sleep(0.1)"""
    other = tmp_path / f".restore-{HOST}-{os.getpid()}-{0:016x}.partial"
    other.touch()
    ending = subprocess.Popen(
        [sys.executable, "-c", code, HOST], cwd=tmp_path, stdout=subprocess.PIPE
    )
    ending.stdout.readline()
    remove_partials(tmp_path, HOST, ending.pid)
    ending.communicate()
    assert list(tmp_path.iterdir()) == [other]


def test_pixels_to_tensor_and_back_is_the_identity():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    rgb = np.dstack([values, values.T, values[::-1]])
    x = to_tensor(rgb, 3)
    assert x.shape == (1, 3, 16, 16)
    assert x.dtype == torch.float32
    np.testing.assert_array_equal(to_pixels(x, gray=False), rgb)
    np.testing.assert_array_equal(to_pixels(to_tensor(values, 3), gray=True), values)
    np.testing.assert_array_equal(to_pixels(to_tensor(values, 1), gray=True), values)


def test_values_outside_the_range_are_clamped_and_halves_round_to_even():
    x = torch.tensor([-0.5, 0.5 / 255, 1.5 / 255, 2.0]).reshape(1, 1, 1, 4)
    assert to_pixels(x, gray=True).tolist() == [[0, 0, 2, 255]]
