"""Cubes in files, read back by second libraries where these are installed; their scores."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import scipy.io
import tifffile

from restorecli.errors import InputError, OutputError, UsageError
from restorecli.scoring.metrics.spectra import (
    SPECTRAL_PROTOCOLS,
    find_spectral_protocol,
    score_cubes,
)
from restorecli.spectral import writing
from restorecli.spectral.cubes import CASSI_NM, RGB_NM, Cube, as_float
from restorecli.spectral.observer import bands_to_srgb, srgb_decoded, srgb_encoded
from restorecli.spectral.reading import MEASUREMENT_NAMES, read_cube, read_plane
from restorecli.spectral.writing import write_cube, writer_for

H5PY = pytest.mark.skipif(find_spec("h5py") is None, reason="h5py is an extra")
FORMATS = ["img", "tif", "npz", pytest.param("mat", marks=H5PY)]


def cube_of(bands=31, height=9, width=7, seed=0):
    values = np.random.default_rng(seed).random((bands, height, width), dtype=np.float32)
    return Cube(bands=values, wavelengths_nm=RGB_NM if bands == 31 else CASSI_NM)


@pytest.mark.parametrize("bands", [31, 28])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_cube_written_by_rows_is_read_back_equal(tmp_path, suffix, bands):
    cube, path = cube_of(bands), tmp_path / f"cube.{suffix}"
    with writer_for(path, cube.bands.shape, cube.wavelengths_nm) as writer:
        for top in range(0, 9, 4):
            writer.add(cube.bands[:, top : top + 4])
    read = read_cube(path)
    np.testing.assert_array_equal(read.bands, cube.bands)
    assert read.wavelengths_nm == cube.wavelengths_nm
    expected = {path.name, "cube.hdr"} if suffix == "img" else {path.name}
    assert {file.name for file in tmp_path.iterdir()} == expected


def test_pages_are_one_for_each_band(tmp_path):
    cube = cube_of()
    write_cube(cube, tmp_path / "pages.tif", pages=True)
    with tifffile.TiffFile(tmp_path / "pages.tif") as opened:
        assert len(opened.pages) == 31
        assert opened.pages[3].description == "430 nm"
    np.testing.assert_array_equal(read_cube(tmp_path / "pages.tif").bands, cube.bands)


def test_the_spectral_library_reads_envi_with_its_wavelengths(tmp_path):
    envi = pytest.importorskip("spectral.io.envi")
    cube = cube_of()
    write_cube(cube, tmp_path / "c.img")
    opened = envi.open(tmp_path / "c.hdr")
    np.testing.assert_array_equal(np.asarray(opened.load()).transpose(2, 0, 1), cube.bands)
    assert opened.bands.centers == list(RGB_NM)
    assert opened.bands.band_unit == "Nanometers"
    opened.fid.close()


@H5PY
def test_h5py_reads_what_matlab_would(tmp_path):
    import h5py

    cube = cube_of()
    write_cube(cube, tmp_path / "c.mat")
    assert (tmp_path / "c.mat").read_bytes()[:128].endswith(b"\x00\x02IM")
    with h5py.File(tmp_path / "c.mat") as opened:
        assert opened["cube"].shape == (31, 7, 9)  # H×W×31 in MATLAB
        np.testing.assert_array_equal(opened["cube"][:].transpose(0, 2, 1), cube.bands)
        assert opened["cube"].attrs["MATLAB_class"] == b"single"
        assert opened["bands"].shape == (31, 1)


def test_tifffile_and_numpy_read_theirs(tmp_path):
    cube = cube_of()
    write_cube(cube, tmp_path / "c.tif")
    write_cube(cube, tmp_path / "c.npz")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "c.tif"), cube.bands)
    with np.load(tmp_path / "c.npz") as archive:
        np.testing.assert_array_equal(archive["cube"], cube.bands)
        assert tuple(archive["wavelengths_nm"]) == RGB_NM


@pytest.mark.skipif(not shutil.which("gdalinfo"), reason="GDAL's programs are not installed")
@pytest.mark.parametrize("suffix", ["img", "tif"])
def test_gdal_sees_the_bands_and_their_names(tmp_path, suffix):
    cube = cube_of()
    path, raw = tmp_path / f"c.{suffix}", tmp_path / "raw.bsq"
    write_cube(cube, path)
    told = subprocess.run(["gdalinfo", path], capture_output=True, text=True, check=True).stdout
    assert told.count("Type=Float32") == 31
    assert "550 nm" in told
    command = ["gdal_translate", "-q", "-of", "ENVI", "-co", "INTERLEAVE=BSQ", path, raw]
    subprocess.run(command, capture_output=True, check=True)
    values = np.fromfile(raw, "<f4").reshape(cube.bands.shape)
    np.testing.assert_array_equal(values, cube.bands)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_failure_on_the_way_leaves_nothing(tmp_path, suffix):
    cube = cube_of()
    arguments = tmp_path / f"c.{suffix}", cube.bands.shape, cube.wavelengths_nm
    writer = writer_for(*arguments)

    def interrupted():
        with writer:
            writer.add(cube.bands[:, :3])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_places_and_formats_that_cannot_be_written_are_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="Cannot write"):
        write_cube(cube_of(), tmp_path / "file" / "c.npz")
    with pytest.raises(UsageError, match=r"its ending is '\.jpg'"):
        write_cube(cube_of(), tmp_path / "c.jpg")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match="need h5py"):
        writing.kind_of(tmp_path / "c.mat")


def test_other_interleaves_types_and_units_of_envi_are_read(tmp_path):
    values = np.arange(3 * 4 * 31, dtype=">u2").reshape(3, 4, 31)  # lines, samples, bands
    (tmp_path / "c.img").write_bytes(b"head" + values.tobytes())
    micrometres = ", ".join(f"{nm / 1000}" for nm in RGB_NM)
    (tmp_path / "c.hdr").write_text(
        "ENVI\nsamples = 4\nlines=3\nbands = 31\nheader offset = 4\ndata type = 12\n"
        "interleave = bip\nbyte order = 1\nwavelength units = Micrometers\n"
        f"wavelength = {{\n {micrometres} }}\n"
    )
    cube = read_cube(tmp_path / "c.hdr")
    np.testing.assert_array_equal(cube.bands, values.transpose(2, 0, 1))
    assert cube.wavelengths_nm == pytest.approx(RGB_NM)
    assert as_float(cube.bands).max() <= 1


def test_files_that_are_no_cubes_are_refused_in_one_sentence(tmp_path):
    def refused(name, words, data=None, **arrays):
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        elif arrays:
            np.savez(path, **arrays)
        with pytest.raises(InputError, match=words):
            read_cube(path)

    refused("none.tif", "There is no file")
    refused("photo.jpg", "its ending is", b"x")
    refused("bad.npz", "Cannot read", b"not a zip")
    refused("bad.mat", "Cannot read", b"not matlab")
    refused("bad.tif", "Cannot read", b"not a tiff")
    refused("flat.npz", "no array of three axes", cube=np.zeros((4, 4)))
    refused(
        "five.npz", "5 bands and does not say which; expected 28 or 31", cube=np.zeros((5, 2, 2))
    )
    refused("nan.npz", "not finite", cube=np.full((31, 2, 2), np.nan))
    refused("alone.img", "no header", b"x")
    (tmp_path / "short.hdr").write_text("samples=2\nlines=2\nbands=31\ndata type=4\n")
    refused("short.img", "its header promises 496", b"x")


def test_measurements_and_masks_are_found_by_name_or_as_the_only_plane(tmp_path):
    plane = np.random.default_rng(0).random((6, 60))
    scipy.io.savemat(tmp_path / "m.mat", {"meas_real": plane, "other": np.zeros((3, 3))})
    np.testing.assert_allclose(
        read_plane(tmp_path / "m.mat", MEASUREMENT_NAMES, "measurement"), plane, rtol=1e-6
    )
    np.save(tmp_path / "m.npy", plane)
    assert read_plane(tmp_path / "m.npy", ("mask",), "mask").shape == (6, 60)
    np.savez(tmp_path / "two.npz", a=plane, b=plane)
    with pytest.raises(InputError, match=r"has no mask: found a \(6, 60\), b \(6, 60\)"):
        read_plane(tmp_path / "two.npz", ("mask",), "mask")
    with pytest.raises(InputError, match="Cannot read"):
        read_plane(tmp_path / "m.png", ("mask",), "mask")


def test_white_is_white_and_the_curves_are_inverse():
    for wavelengths in (RGB_NM, CASSI_NM):
        np.testing.assert_allclose(bands_to_srgb(wavelengths).sum(1), 1, atol=1e-9)
    lamp = np.linspace(1, 3, 31)
    np.testing.assert_allclose(bands_to_srgb(RGB_NM, lamp).sum(1), 1, atol=1e-9)
    values = np.linspace(0, 1, 256)
    np.testing.assert_allclose(srgb_encoded(srgb_decoded(values)), values, atol=1e-6)
    red = bands_to_srgb(RGB_NM) @ (np.array(RGB_NM) >= 620)
    assert red.argmax() == 0


def test_scores_have_their_closed_forms():
    reference = np.full((31, 4, 5), 0.5)
    scores = score_cubes(reference + 0.1, reference, SPECTRAL_PROTOCOLS["cave"])
    assert scores["psnr_bands"] == pytest.approx(20)
    assert scores["rmse"] == pytest.approx(0.1)
    assert scores["mrae_floor"] == pytest.approx(0.2)
    assert scores["sam"] == pytest.approx(0, abs=1e-5)
    turned = reference.copy()
    turned[:15] = 0
    angle = np.degrees(np.arccos(np.sqrt(16 / 31)))
    assert score_cubes(turned, reference, SPECTRAL_PROTOCOLS["cave"])["sam"] == pytest.approx(angle)


def test_the_dark_is_left_out_as_the_protocol_says():
    reference = np.full((31, 2, 2), 0.5)
    reference[:, 0] = 0
    restored = reference + 0.05
    scores = score_cubes(restored, reference, SPECTRAL_PROTOCOLS["cave"])
    assert scores["mrae_floor"] == pytest.approx(0.1)
    reference[:, 0] = 0.01
    reference[:15, 0] = 0.005
    scores = score_cubes(reference[::-1], reference, SPECTRAL_PROTOCOLS["cave"])
    assert scores["sam"] > 0
    assert scores["sam_bright"] == pytest.approx(0, abs=1e-5)


def test_ntire_leaves_out_the_border_and_has_no_floor():
    reference = np.full((31, 258, 260), 0.5)
    restored = reference.copy()
    restored[:, :128] = 9
    restored[:, 128:130, 128:132] = 0.75
    scores = score_cubes(restored, reference, SPECTRAL_PROTOCOLS["ntire2022"])
    assert scores == pytest.approx({"mrae": 0.5, "rmse": 0.25, "psnr_bands": 12.0412}, abs=1e-4)
    reference[0, 128, 128] = 0
    scores = score_cubes(restored, reference, SPECTRAL_PROTOCOLS["ntire2022"])
    assert scores["mrae"] == np.inf
    with pytest.raises(InputError, match="leaves out 128 pixels"):
        score_cubes(restored[:, :200], reference[:, :200], SPECTRAL_PROTOCOLS["ntire2022"])


def test_kaist_is_the_mean_over_bands_of_rounded_values():
    reference = np.full((28, 16, 16), 100 / 255)
    restored = reference.copy()
    restored[0] += 10.2 / 255
    restored[1:] += 1 / 255
    expected = (28.1308 + 27 * 48.1308) / 28
    scores = score_cubes(restored, reference, SPECTRAL_PROTOCOLS["kaist"])
    assert scores["psnr_bands"] == pytest.approx(expected, abs=1e-3)
    assert 0.9 < scores["ssim_bands"] <= 1


def test_other_shapes_and_protocols_are_refused():
    with pytest.raises(InputError, match="5×4 pixels of 31 bands, the reference 5×4 pixels of 28"):
        score_cubes(np.ones((31, 4, 5)), np.ones((28, 4, 5)), SPECTRAL_PROTOCOLS["cave"])
    with pytest.raises(UsageError, match="Unknown protocol for cubes 'ntire'"):
        find_spectral_protocol("ntire")
