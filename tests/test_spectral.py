"""``restore spectral`` as a user meets it."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from restorecli.errors import (
    DeviceError,
    InputError,
    OutputError,
    QualityError,
    UsageError,
    WeightsError,
)
from restorecli.networks import NETWORKS
from restorecli.networks.mst import cassi_input, cassi_measurement
from restorecli.spectral import model as model_module
from restorecli.spectral.bench import made_up_cube
from restorecli.spectral.cubes import CASSI_NM, RGB_NM, Cube
from restorecli.spectral.model import SpectralEngine
from restorecli.spectral.observer import srgb_decoded
from restorecli.spectral.preview import Preview
from restorecli.spectral.reading import read_cube
from restorecli.spectral.writing import write_cube
from restorecli.weights.checkpoint import LoadedSpectralModel
from tests.conftest import save_weights
from training.spectral.evaluate import BackProjection

ONE_STAGE = {"stage": 1}
CASSI = {"num_blocks": [1, 1, 1]}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return NETWORKS["mst_plus_plus"](**ONE_STAGE).eval()


@pytest.fixture
def weights(tmp_path, network):
    return save_weights(tmp_path / "mst.safetensors", network, "mst_plus_plus", ONE_STAGE)


@pytest.fixture
def cassi(tmp_path):
    torch.manual_seed(0)
    network = NETWORKS["mst_cassi"](**CASSI).eval()
    path = save_weights(tmp_path / "cassi.safetensors", network, "mst_cassi", CASSI)
    rng = np.random.default_rng(0)
    cube, mask = rng.random((28, 12, 16)), rng.random((12, 16))
    y = cassi_measurement(torch.from_numpy(cube)[None], torch.from_numpy(mask))[0].numpy()
    scipy.io.savemat(tmp_path / "mask.mat", {"mask": mask})
    scipy.io.savemat(tmp_path / "meas.mat", {"meas": y})
    return path, network, y.astype(np.float32), mask.astype(np.float32)


def light(path):
    with Image.open(path) as opened:
        encoded = np.asarray(opened) / 255
    planes = srgb_decoded(encoded).transpose(2, 0, 1).astype(np.float32)
    return torch.from_numpy(planes)[None]


def test_a_photograph_becomes_the_networks_cube_of_linear_light(cli, photo_file, weights, network):
    photo = photo_file()
    ended = cli("spectral", photo, "--weights", weights, "--raw")
    assert ended.exit_code == 0, ended.stderr
    assert "Three numbers do not determine a spectrum" in ended.stderr
    cube = read_cube(photo.with_name("photo.spectral.img"))
    assert cube.wavelengths_nm == RGB_NM
    with torch.inference_mode():
        expected = network(light(photo))[0].numpy()
    np.testing.assert_allclose(cube.bands, expected, atol=2e-5)


def test_values_are_clamped_unless_raw_and_linear_input_is_not_decoded(
    cli, photo_file, weights, network, tmp_path
):
    photo = photo_file()
    arguments = ("--weights", weights, "--encoding", "linear", "-o", tmp_path / "c.npz")
    assert cli("spectral", photo, *arguments).exit_code == 0
    with Image.open(photo) as opened:
        x = torch.from_numpy(np.asarray(opened).transpose(2, 0, 1) / np.float32(255))
    with torch.inference_mode():
        expected = network(x[None])[0].clamp(0, 1).numpy()
    np.testing.assert_allclose(read_cube(tmp_path / "c.npz").bands, expected, atol=2e-5)


def test_sixteen_bits_and_stretching_reach_the_network(network):
    model = LoadedSpectralModel(network=network, id="x", sha256="0")
    engine = SpectralEngine(
        model=model, device=torch.device("cpu"), encoding="linear", stretched=True
    )
    pixels = np.random.default_rng(0).integers(5000, 60000, (8, 8, 3)).astype(np.uint16)
    span = (pixels - pixels.min()) / (pixels.max() - pixels.min())
    made = np.concatenate([rows for _, rows in engine.of_photo(pixels)], 1)
    with torch.inference_mode():
        x = torch.from_numpy(span.transpose(2, 0, 1).astype(np.float32))
        expected = network(x[None])[0].numpy()
    np.testing.assert_allclose(made, expected, atol=2e-5)


def test_the_bundled_default_makes_a_cube_of_every_format(cli, photo_file, tmp_path):
    photo = photo_file()
    for name in ("c.img", "c.tif", "c.npz"):
        assert cli("spectral", photo, "-o", tmp_path / name).exit_code == 0
    first, *others = (read_cube(tmp_path / name).bands for name in ("c.img", "c.tif", "c.npz"))
    assert 0 <= first.min() < first.max() <= 1
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_a_measurement_becomes_the_networks_cube(cli, cassi, tmp_path):
    weights, network, y, mask = cassi
    ended = cli(
        "spectral", tmp_path / "meas.mat", "--mask", tmp_path / "mask.mat", "--weights", weights,
        "-o", tmp_path / "cube.img", "--raw",
    )  # fmt: skip
    assert ended.exit_code == 0, ended.stderr
    cube = read_cube(tmp_path / "cube.img")
    assert cube.wavelengths_nm == CASSI_NM
    with torch.inference_mode():
        x = cassi_input(torch.from_numpy(y)[None])
        expected = network(x, torch.from_numpy(mask))[0].numpy()
    np.testing.assert_allclose(cube.bands, expected, atol=1e-4)


def test_references_score_and_reports_say_the_protocol(cli, photo_file, tmp_path):
    photo = photo_file("in/photo.png")
    cli("spectral", photo, "-o", tmp_path / "ref" / "photo.npz")
    ended = cli(
        "spectral", tmp_path / "in", "-o", tmp_path / "out", "--ref", tmp_path / "ref",
        "--report", tmp_path / "report.json", "--json",
    )  # fmt: skip
    assert ended.exit_code == 0, ended.stderr
    row, summary = ended.lines
    assert row["scores_after"]["psnr_bands"] == "Infinity"
    assert row["scores_after"]["rmse"] == 0
    assert summary["settings"]["protocol"] == "cave"
    assert (
        "1/255" in json.loads((tmp_path / "report.json").read_text())["settings"]["protocol_text"]
    )


def test_preview_and_page_show_the_cube(cli, photo_file, tmp_path):
    photo = photo_file()
    cli("spectral", photo, "-o", tmp_path / "ref.npz")
    ended = cli(
        "spectral", photo, "-o", tmp_path / "c.img", "--preview", "--page", tmp_path / "p.html",
        "--ref", tmp_path / "ref.npz",
    )  # fmt: skip
    assert ended.exit_code == 0, ended.stderr
    with Image.open(tmp_path / "c.preview.png") as shown, Image.open(photo) as source:
        assert shown.size == source.size
    page = (tmp_path / "p.html").read_text()
    assert "Three numbers do not determine a spectrum" in page
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert data["wavelengths"] == list(RGB_NM)
    assert data["panels"][0]["reference"] == data["panels"][0]["spectra"]


def test_a_gray_spectrum_is_shown_gray_and_samples_are_the_cubes():
    bands = np.full((31, 200, 130), 0.5, np.float32)
    bands[:, 150:, 100:] = 0.25
    preview = Preview(bands.shape, RGB_NM)
    for top in range(0, 200, 30):
        preview.add(top, bands[:, top : top + 30])
    assert set(preview.picture[:150].ravel()) == {188}
    assert max(preview.samples.shape[1:]) <= 96
    expected = bands[:, preview.rows][:, :, preview.columns]
    np.testing.assert_array_equal(preview.samples, expected)


def test_a_folder_is_resumed_and_one_bad_picture_does_not_stop_the_rest(cli, photo_file, tmp_path):
    photo_file("in/a.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    Image.new("L", (16, 16)).save(tmp_path / "in" / "gray.png")
    Image.new("RGBA", (16, 16)).save(tmp_path / "in" / "alpha.png")
    ended = cli("spectral", tmp_path / "in", "--format", "npz", "--json")
    assert ended.exit_code == 1
    errors = {row["name"].split("/")[-1]: row["error"] for row in ended.lines[:-1]}
    assert errors["a.png"] is None
    assert "gray: a spectrum needs red, green and blue" in errors["gray.png"]
    assert "alpha channel" in errors["alpha.png"]
    assert "bad.png" in errors["bad.png"]
    out = tmp_path / "in.spectral"
    assert [path.name for path in out.glob("*.npz")] == ["a.npz"]
    again = cli("spectral", tmp_path / "in", "--format", "npz", "--json")
    assert again.exit_code == OutputError.exit_code
    resumed = cli("spectral", tmp_path / "in", "--format", "npz", "--json", "--resume")
    statuses = {row["name"].split("/")[-1]: row["status"] for row in resumed.lines[:-1]}
    assert statuses["a.png"] == "skipped"
    changed = cli("spectral", tmp_path / "in", "--format", "npz", "--json", "--resume", "--raw")
    statuses = {row["name"].split("/")[-1]: row["status"] for row in changed.lines[:-1]}
    assert statuses["a.png"] == "ok"


def test_bad_input_is_one_sentence_with_its_code_and_writes_nothing(
    cli, photo_file, cassi, tmp_path
):
    weights, *_ = cassi
    photo, out = photo_file(), tmp_path / "out.npz"
    mask, meas = tmp_path / "mask.mat", tmp_path / "meas.mat"
    scipy.io.savemat(tmp_path / "small.mat", {"mask": np.ones((8, 8))})
    scipy.io.savemat(tmp_path / "words.mat", {"text": "no measurement"})
    values = np.linspace(0, 255, 192).reshape(12, 16)
    scipy.io.savemat(tmp_path / "white.mat", {"mask": values})
    scipy.io.savemat(tmp_path / "dark.mat", {"mask": 0 * values})
    scipy.io.savemat(tmp_path / "nan.mat", {"mask": np.full((12, 16), np.nan)})
    (tmp_path / "cut.mat").write_bytes(mask.read_bytes()[:200])
    np.savez(tmp_path / "five.npz", cube=np.ones((5, 48, 40)))
    of_cassi = ("--weights", weights, "--mask", mask)
    cases = [
        ((photo, "--ref", tmp_path / "five.npz"), InputError, "5 bands and does not say which"),
        ((tmp_path / "none.png",), InputError, "none.png"),
        ((meas, "--weights", weights, "--mask", tmp_path / "small.mat"), InputError, "70×12"),
        ((tmp_path / "words.mat", *of_cassi), InputError, "has no measurement"),
        ((meas, "--weights", weights, "--mask", tmp_path / "white.mat"), InputError, "0 to 255"),
        ((meas, "--weights", weights, "--mask", tmp_path / "dark.mat"), InputError, "0 to 0"),
        ((meas, "--weights", weights, "--mask", tmp_path / "no.mat"), InputError, "no.mat"),
        ((meas, "--weights", weights, "--mask", tmp_path / "nan.mat"), InputError, "not finite"),
        ((meas, "--mask", tmp_path / "cut.mat"), InputError, "Cannot read"),
        ((photo, *of_cassi), InputError, "as a measurement: its ending is '.png'"),
        ((meas, *of_cassi, "--encoding", "srgb"), UsageError, "--encoding is of pictures"),
        ((photo, "--weights", weights), UsageError, "is for measurements, with --mask"),
        ((photo, "--model", "mst-plus-plus"), WeightsError, "not installed"),
        ((photo, "--model", "hint-derain-packed"), UsageError, "is for derain"),
        ((photo, "--max-memory", "1MB", "--weights", weights), UsageError, "with --mask"),
        ((photo, "--protocol", "cav"), UsageError, "Did you mean 'cave'"),
        ((photo, "--report", tmp_path / "r.xml"), UsageError, "its ending"),
    ]
    for arguments, error, words in cases:
        ended = cli("spectral", *arguments, "-o", out)
        assert ended.exit_code == error.exit_code, (arguments, ended.stderr)
        assert words in ended.stderr, (arguments, ended.stderr)
        assert not out.exists()
    assert not list(tmp_path.glob(".restore*"))


def test_too_little_memory_is_refused_before_the_work(cli, photo_file, weights, tmp_path):
    ended = cli("spectral", photo_file(), "--weights", weights, "--max-memory", "1MB", "-o",
                tmp_path / "c.npz")  # fmt: skip
    assert ended.exit_code == DeviceError.exit_code
    assert "GB more memory" in ended.stderr
    assert not (tmp_path / "c.npz").exists()


def test_results_of_one_name_and_results_that_are_inputs_are_refused(cli, photo_file, tmp_path):
    photo_file("in/a.png")
    photo_file("in/a.jpg")
    ended = cli("spectral", tmp_path / "in", "-o", tmp_path / "out")
    assert ended.exit_code == OutputError.exit_code
    assert "would both become" in ended.stderr
    write_cube(Cube(bands=np.ones((31, 4, 4)), wavelengths_nm=RGB_NM), tmp_path / "c.tif")
    ended = cli("spectral", tmp_path / "c.tif", "-o", tmp_path / "c.tif", "--overwrite")
    assert ended.exit_code == OutputError.exit_code
    assert "would replace an input" in ended.stderr


def test_a_dry_run_writes_nothing(cli, photo_file, tmp_path):
    photo = photo_file()
    ended = cli("spectral", photo, "-n")
    assert ended.exit_code == 0
    assert "would write" in ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png"]


def test_bench_measures_networks_for_spectra_as_well(cli):
    ended = cli("bench", "--size", "40x24", "--model", "mst-glmha-compact", "--json")
    assert ended.exit_code == 0, ended.stderr
    (measured,) = ended.lines[0]["measured"]
    assert (measured["width_px"], measured["height_px"]) == (40, 24)
    assert measured["exact"] is True
    assert measured["predicted_memory_bytes"] > 100_000_000
    refused = cli("bench", "--model", "mst-glmha-compact", "--precision", "bf16")
    assert refused.exit_code == UsageError.exit_code
    assert "in fp32 only" in refused.stderr


def test_bench_times_every_row_of_a_cube_and_of_a_measurement(cassi, network):
    for name, loaded in (("rgb", network), ("cassi", cassi[1])):
        model = LoadedSpectralModel(network=loaded, id=name, sha256="0")
        engine = SpectralEngine(
            model=model, device=torch.device("cpu"), encoding="srgb", stretched=False
        )
        made = np.concatenate([rows for _, rows in made_up_cube(engine, (24, 40))], 1)
        assert made.shape == (engine.band_count, 24, 40)
        with (
            pytest.raises(InputError, match="must divide by 4")
            if name == "cassi"
            else nullcontext()
        ):
            list(made_up_cube(engine, (22, 40)))


@pytest.fixture
def cubes(tmp_path):
    """``made`` and ``true`` with two cubes each, of several formats; the first differs by 0.1."""
    truth = np.linspace(0.2, 0.6, 31 * 12 * 16, dtype=np.float32).reshape(31, 12, 16)
    for folder, change, suffix in (("made", 0.1, ".npz"), ("true", 0.0, ".img")):
        (tmp_path / folder / "deep").mkdir(parents=True)
        for name, own in (("a", change), ("deep/b", 0.0)):
            cube = Cube(bands=truth + np.float32(own), wavelengths_nm=RGB_NM)
            write_cube(cube, tmp_path / folder / f"{name}{suffix}")
    return tmp_path / "made", tmp_path / "true"


def test_metrics_scores_folders_of_cubes(cli, cubes, tmp_path):
    made, true = cubes
    report = tmp_path / "r.html"
    ended = cli("metrics", made, "--ref", true, "--protocol", "cave", "--json", "--report", report)
    assert ended.exit_code == 0, ended.stderr
    first, second, summary = ended.lines
    assert (first["name"], second["name"]) == ("a.npz", "deep/b.npz")
    assert first["scores_after"]["rmse"] == pytest.approx(0.1, abs=1e-5)
    assert first["scores_after"]["psnr_bands"] == pytest.approx(20, abs=1e-3)
    assert second["scores_after"]["psnr_bands"] == "Infinity"
    assert summary["settings"]["protocol"] == "cave"
    assert "rmse" in summary["lower_is_better"]
    data = json.loads(
        report.read_text().split('type="application/json" id="data">')[1].split("</script>")[0]
    )
    assert all(picture["src"].startswith("data:image") for picture in data[0]["pictures"])


def test_metrics_of_cubes_compares_gates_and_prints(cli, cubes):
    made, true = cubes
    ended = cli("metrics", made, "--ref", true, "--protocol", "kaist", "--against", true)
    assert ended.exit_code == 0, ended.stderr
    assert "Paired difference" in ended.stdout
    under = ("--fail-under", "rmse=0.01")
    gated = cli("metrics", made, "--ref", true, "--protocol", "cave", *under)
    assert gated.exit_code == QualityError.exit_code
    assert "mean rmse is 0.0500" in gated.stderr
    listed = cli("metrics", "--list-protocols")
    assert "cubes of spectra: ARAD-1K" in listed.stdout


def test_metrics_refuses_cubes_that_cannot_be_scored_in_one_sentence(cli, cubes, tmp_path):
    made, true = cubes
    small = Cube(bands=np.ones((31, 4, 4)), wavelengths_nm=RGB_NM)
    shifted = Cube(bands=np.ones((31, 12, 16)), wavelengths_nm=tuple(nm + 50 for nm in RGB_NM))
    write_cube(small, tmp_path / "small.npz")
    write_cube(shifted, tmp_path / "shifted.npz")
    (tmp_path / "text.npz").write_text("no cube")
    (tmp_path / "empty").mkdir()
    one = true / "a.img"
    cases = [
        ((tmp_path / "small.npz", "--ref", one), "4×4 pixels of 31 bands, the reference 16×12"),
        (
            (tmp_path / "shifted.npz", "--ref", one),
            "go from 450 to 750 nm, the reference's from 400",
        ),
        ((tmp_path / "text.npz", "--ref", one), "Cannot read"),
        ((tmp_path / "empty", "--ref", one), "No cube in"),
        ((tmp_path / "none.npz", "--ref", one), "There is no file or folder"),
        ((one, "--ref", one, "--with", "lpips"), "is of pictures; cave scores cubes"),
        ((made / "a.npz", "--ref", one, "--protocol", "ntire2022"), "leaves out 128 pixels"),
    ]
    for arguments, words in cases:
        ended = cli("metrics", "--protocol", "cave", *arguments)
        assert ended.exit_code in {InputError.exit_code, UsageError.exit_code, 1}, arguments
        assert words in ended.stderr, (arguments, ended.stderr)
        assert "Traceback" not in ended.stderr


def test_a_report_shows_picture_cube_and_reference(cli, photo_file, tmp_path):
    photo = photo_file("in/photo.png")
    cli("spectral", photo, "-o", tmp_path / "ref" / "photo.npz")
    ended = cli(
        "spectral", tmp_path / "in", "-o", tmp_path / "out", "--ref", tmp_path / "ref",
        "--report", tmp_path / "r.html",
    )  # fmt: skip
    assert ended.exit_code == 0, ended.stderr
    page = (tmp_path / "r.html").read_text()
    data = json.loads(page.split('type="application/json" id="data">')[1].split("</script>")[0])
    shown = {picture["label"]: picture["src"] for picture in data[0]["pictures"]}
    assert shown.keys() == {"Input", "Restored", "Reference"}
    assert all(url.startswith("data:image/") for url in shown.values())
    assert shown["Restored"] == shown["Reference"] != shown["Input"]
    assert "Three numbers do not determine a spectrum" in page


def test_the_bundled_network_of_a_snapshot_camera_sees_more_than_the_measurement(cli, tmp_path):
    rng = np.random.default_rng(1)
    mask = rng.random((64, 64)).astype(np.float32)
    blocks = rng.random((2, 8, 8)).repeat(8, 1).repeat(8, 2)
    ramp = np.linspace(0, 1, 28)[:, None, None]
    cube = (0.1 + 0.7 * (ramp * blocks[0] + (1 - ramp) * blocks[1])).astype(np.float32)
    planes = torch.from_numpy(cube)[None]
    y = cassi_measurement(planes, torch.from_numpy(mask))
    scipy.io.savemat(tmp_path / "mask.mat", {"mask": mask})
    scipy.io.savemat(tmp_path / "meas.mat", {"meas": y[0].numpy()})
    out = tmp_path / "cube.mat"
    ended = cli("spectral", tmp_path / "meas.mat", "--mask", tmp_path / "mask.mat", "-o", out)
    assert ended.exit_code == 0, ended.stderr
    made = read_cube(out)
    assert made.wavelengths_nm == CASSI_NM
    by_itself = BackProjection()(cassi_input(y), torch.from_numpy(mask))[0].numpy()
    errors = [np.sqrt(np.square(found - cube).mean()) for found in (made.bands, by_itself)]
    assert errors[0] < 0.7 * errors[1], errors


def test_twelve_megapixels_are_planned_below_two_gigabytes(network, monkeypatch):
    monkeypatch.setattr(model_module, "held_bytes", lambda device: 400_000_000)
    monkeypatch.setattr(model_module, "free_bytes", lambda device: 64_000_000_000)
    model = LoadedSpectralModel(network=network, id="x", sha256="0")
    engine = SpectralEngine(
        model=model, device=torch.device("cpu"), encoding="srgb", stretched=False
    )
    plan = engine.plan((3000, 4000))
    assert plan.predicted_bytes < 2_000_000_000
    assert plan.strip_rows == 2**16 // 4000  # lower than where there is room
    roomy = replace(engine, max_bytes=8_000_000_000).plan((3000, 4000))
    assert roomy.strip_rows == 2**17 // 4000
    assert roomy.predicted_bytes > plan.predicted_bytes
