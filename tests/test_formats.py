"""Format × depth × channels × metadata × orientation through the real command.

The results are read again by exiftool and ImageMagick where they are installed (Debian: ``apt-get
install libimage-exiftool-perl imagemagick``): a mistake made twice by our own reader is found.
"""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

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
