"""Format × depth × channels × metadata × orientation through the real command.

The results are read again by exiftool and ImageMagick where they are installed (Debian: ``apt-get
install libimage-exiftool-perl imagemagick``): a mistake made twice by our own reader is found.
"""

from __future__ import annotations

import io
import itertools
import json
import shutil
import struct
import subprocess

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import color

from restorecli.images import read_photo
from tests import matrix

WHITE = {8: 255, 16: 65_535, 32: 1}
MEAN_ERROR = {"jpg": 0.01, "avif": 0.02}  # of white: coding once more
OWN_TAGS = {"Orientation", "ThumbnailOffset"}  # what a result has to say of itself
GROUPS = ("IFD0", "ExifIFD", "GPS", "XMP", "ICC", "PNG-pHYs", "JFIF")
OF_THE_FILE = {
    "BitsPerSample", "Compression", "ImageHeight", "ImageWidth", "PhotometricInterpretation",
    "PlanarConfiguration", "Predictor", "RowsPerStrip", "SampleFormat", "SamplesPerPixel",
    "StripByteCounts", "StripOffsets", "ColorMap", "ExtraSamples", "FillOrder", "SubfileType",
    "NewSubfileType", "JFIFVersion", "XResolution", "YResolution", "ResolutionUnit", "XMPToolkit",
}  # fmt: skip


@pytest.fixture(scope="module", params=["short", pytest.param("every", marks=pytest.mark.long)])
def restored(request, tmp_path_factory):
    """The chosen cases, the folder with the inputs and the one with the results."""
    chosen = matrix.cases(every=request.param == "every")
    folder = tmp_path_factory.mktemp("matrix")
    return chosen, folder / "in", matrix.restore_all(chosen, folder)


def test_pixels_depth_channels_and_alpha_survive_every_orientation(restored):
    chosen, before, after = restored
    for case in chosen:
        source, result = read_photo(before / case.name), read_photo(after / case.name)
        assert source.bits == result.bits == case.bits, case
        assert source.is_gray == result.is_gray == case.kind.startswith("gray"), case
        stored = matrix.planes_of(case).shape[:2]
        assert result.size == (stored if case.orientation < 5 else stored[::-1]), case
        if case.kind == "palette" or not case.lossless:
            error = np.abs(result.pixels.astype(float) - source.pixels).mean() / WHITE[case.bits]
            assert error <= (0 if case.lossless else MEAN_ERROR[case.suffix]), case
        else:
            np.testing.assert_array_equal(result.pixels, source.pixels, str(case))
        assert (source.alpha is None) == (result.alpha is None), case
        if source.alpha is not None:
            np.testing.assert_array_equal(result.alpha, source.alpha, str(case))


def test_stored_pixels_are_read_as_they_were_made(restored):
    chosen, before, _ = restored
    for case in chosen:
        if not case.lossless or "palette" in case.kind or case.orientation != 1:
            continue
        planes = matrix.planes_of(case)
        photo = read_photo(before / case.name)
        expected = planes[..., 0] if photo.is_gray else planes[..., :3]
        np.testing.assert_array_equal(photo.pixels, expected, str(case))


def test_exiftool_finds_the_same_metadata_and_no_turn(restored):
    chosen, before, after = restored
    if not shutil.which("exiftool"):
        pytest.skip("exiftool is not installed")
    sources, results = _tags(before), _tags(after)
    for case in chosen:
        if not case.tagged:
            continue
        source, result = sources[case.name], results[case.name]
        turn = {value for name, value in result.items() if name.endswith(":Orientation")}
        assert turn <= {1}, case
        assert (
            source.items() <= (result | {n: v for n, v in source.items() if _is_own(n)}).items()
        ), case
        assert result["IFD0:Make"] == "Camera of ours", case
        assert any(name.startswith("XMP") for name in result), case
        assert any(n.startswith("ICC") for n in result) == (matrix.icc_of(case) is not None), case
        if case.suffix in {"png", "jpg", "tif"}:
            assert _dpi(result) == pytest.approx(300, abs=0.01), case


def _is_own(name):
    return name.split(":")[1] in OWN_TAGS | OF_THE_FILE


def _tags(folder):
    ended = subprocess.run(
        ["exiftool", "-j", "-n", "-G1", "-r", folder], capture_output=True, check=True
    )
    return {
        tags["SourceFile"].rsplit("/", 1)[1]: {
            name: value for name, value in tags.items() if name.startswith(GROUPS)
        }
        for tags in json.loads(ended.stdout)
    }


def _dpi(tags):
    if "PNG-pHYs:PixelsPerUnitX" in tags:
        return tags["PNG-pHYs:PixelsPerUnitX"] * 0.0254
    return tags.get("IFD0:XResolution", tags.get("JFIF:XResolution"))


def test_imagemagick_sees_the_same_upright_picture(restored):
    chosen, before, after = restored
    if not shutil.which("convert"):
        pytest.skip("ImageMagick is not installed")
    compared = 0
    for case in chosen:
        if not case.lossless or (case.suffix != "tif" and case.orientation > 1):
            continue  # this ImageMagick turns pictures by TIFF's tag, but not by a PNG's EXIF
        if (case.suffix, case.kind) == ("tif", "palette"):
            continue  # its 16-bit colours are v·256 here, of which ImageMagick makes v − 1
        source = _rgba(before / case.name, case.bits)
        if source is not None:  # a format that it was not built with
            assert source == _rgba(after / case.name, case.bits), case
            compared += 1
    assert compared > 20


def _rgba(path, bits):
    command = ["convert", path, "-auto-orient", "-depth", str(min(bits, 16)), "RGBA:-"]
    ended = subprocess.run(command, capture_output=True)
    return ended.stdout if ended.returncode == 0 else None


@pytest.mark.long
def test_the_page_of_formats_is_up_to_date(tmp_path):
    chosen = matrix.cases(every=True)
    results = matrix.restore_all(chosen, tmp_path)
    assert matrix.PAGE.read_text(encoding="utf-8") == matrix.page(chosen, tmp_path / "in", results)


# Printing inks as Lab under D50, and paper for none: cyan, magenta, yellow, black and their sums.
INKS = {
    (0, 0, 0, 0): (100, 0, 0),
    (1, 0, 0, 0): (58, -30, -45),
    (0, 1, 0, 0): (50, 70, -5),
    (0, 0, 1, 0): (91, -5, 85),
    (1, 1, 0, 0): (28, 18, -43),
    (1, 0, 1, 0): (54, -60, 30),
    (0, 1, 1, 0): (50, 65, 45),
    (1, 1, 1, 0): (20, 0, 0),
}


def cmyk_profile():
    """An ICC profile (version 2, one ``lut8``) of inks that mix linearly; black takes all light."""
    corners = []
    for inks in itertools.product((0, 1), repeat=4):
        lightness, a, b = (0, 0, 0) if inks[3] else INKS[inks]
        corners += [round(lightness * 2.55), a + 128, b + 128]
    line = bytes(range(256))
    table = struct.pack(">4s4xBBBx", b"mft1", 4, 3, 2)
    table += struct.pack(">9i", *(65_536 * (i % 4 == 0) for i in range(9)))
    table += line * 4 + bytes(corners) + line * 3
    text = struct.pack(">4s4xI", b"desc", 5) + b"inks\0" + bytes(78)
    white = struct.pack(">4s4x3i", b"XYZ ", 63_190, 65_536, 54_061)
    tags, body, at = b"", b"", 128 + 4 + 3 * 12
    for name, value in ((b"desc", text), (b"wtpt", white), (b"A2B0", table)):
        tags += struct.pack(">4sII", name, at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    size = at + len(body)
    header = struct.pack(">I4xI4s4s4s", size, 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H4s", 2020, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    header += struct.pack(">3i", 63_190, 65_536, 54_061)
    return header.ljust(128, b"\0") + struct.pack(">I", 3) + tags + body


def test_cmyk_becomes_the_colours_that_its_profile_says(cli, tmp_path, identity_weights):
    inks = list(INKS)
    squares = np.repeat(np.repeat(np.uint8([inks]) * 255, 16, axis=0), 16, axis=1)
    path = tmp_path / "print.jpg"
    picture = Image.frombytes("CMYK", (len(inks) * 16, 16), squares.tobytes())
    tags = {"icc_profile": cmyk_profile(), "exif": matrix.exif_of(1)}
    picture.save(path, quality=100, subsampling=0, **tags)
    assert cli("derain", path, "--weights", identity_weights).exit_code == 0
    with Image.open(tmp_path / "print.derain.jpg") as result:
        assert result.mode == "RGB"
        profile = ImageCms.ImageCmsProfile(io.BytesIO(result.info["icc_profile"]))
        assert "sRGB" in ImageCms.getProfileDescription(profile)
        assert result.getexif()[0x010F] == "Camera of ours"
        middles = np.asarray(result)[8, 8::16].astype(float) / 255
    in_d65 = rgb_of_lab([INKS[i] for i in inks])
    shown = ((in_d65 > 0) & (in_d65 < 1)).all(axis=1) | (in_d65 > 0.99).all(axis=1)
    assert shown.sum() >= 3  # the others lie outside sRGB
    np.testing.assert_allclose(middles[shown], in_d65[shown], atol=0.02)


def rgb_of_lab(colours):
    """Lab under D50 to sRGB under D65 by Bradford adaptation, not clipped: (N, 3)."""
    adapt = np.array(
        [
            [0.9555766, -0.0230393, 0.0631636],
            [-0.0282895, 1.0099416, 0.0210077],
            [0.0122982, -0.0204830, 1.3299098],
        ]
    )
    primaries = np.array(
        [
            [3.2404542, -1.5371385, -0.4985314],
            [-0.9692660, 1.8760108, 0.0415560],
            [0.0556434, -0.2040259, 1.0572252],
        ]
    )
    xyz = color.lab2xyz(np.array([colours], float), illuminant="D50")[0]
    linear = xyz @ adapt.T @ primaries.T
    curve = 1.055 * np.abs(linear) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, curve)


@pytest.mark.parametrize("turned", [1, 6])
def test_a_phone_picture_keeps_its_metadata_and_is_upright(cli, tmp_path, identity_weights, turned):
    heif = pytest.importorskip("pillow_heif")
    rows, columns = np.mgrid[:48, :64]
    smooth = np.stack([rows * 5, columns * 3, rows + columns], -1).astype(np.uint8)
    path = tmp_path / "phone.heic"
    picture = heif.from_pillow(Image.fromarray(smooth))
    exif = matrix.exif_of(turned)
    picture.save(path, quality=95, exif=exif, xmp=matrix.XMP, icc_profile=matrix.ICC)
    assert cli("derain", path, "--weights", identity_weights).exit_code == 0
    result = tmp_path / "phone.derain.png"
    photo = read_photo(result)
    upright = {1: smooth, 6: np.rot90(smooth, -1)}[turned]
    assert photo.pixels.shape == upright.shape
    assert np.abs(photo.pixels.astype(float) - upright).mean() < 4
    with Image.open(result) as again:
        tags = again.getexif()
        assert tags.get(0x0112, 1) == 1
        assert tags[0x010F] == "Camera of ours"
        assert tags.get_ifd(0x8825)[1] == "N"
        assert again.info["icc_profile"] == matrix.ICC
        assert b"rain" in again.info["xmp"]
