"""The command as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from restorecli import __version__
from restorecli.engine import bench, plan
from restorecli.engine import engine as engines
from restorecli.engine.settings import EngineSettings
from restorecli.errors import DeviceError, InputError, OutputError, UsageError, WeightsError
from restorecli.networks import NETWORKS
from restorecli.networks.strips import kernels, memory
from restorecli.runs.manifest import LOCK, MANIFEST
from restorecli.weights import CheckpointFile, ChosenModel, registry
from tests.conftest import TINY, pixels_of, save_weights


def files_in(folder):
    """All but the manifest and its lock."""
    found = (p for p in folder.rglob("*") if p.is_file() and p.name not in {MANIFEST, LOCK})
    return sorted(str(p.relative_to(folder)) for p in found)


def test_the_bundled_network_restores_a_photograph_beside_itself(cli, photo_file):
    path = photo_file("photo.jpg", 64, 96)
    before = path.read_bytes()
    outcome = cli("derain", path)
    assert outcome.exit_code == 0
    assert outcome.stdout == ""
    result = path.with_name("photo.derain.jpg")
    assert pixels_of(result).shape == (64, 96, 3)
    assert path.read_bytes() == before
    assert "photo.derain.jpg" in outcome.stderr


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_a_network_that_changes_nothing_gives_the_pixels_back(
    cli, photo_file, identity_weights, tmp_path, suffix
):
    options = {"lossless": True} if suffix == "webp" else {}
    path = photo_file(f"a.{suffix}", 37, 53, **options)
    out = tmp_path / "out.png"
    assert cli("derain", path, "--weights", identity_weights, "-o", out).exit_code == 0
    np.testing.assert_array_equal(pixels_of(out), pixels_of(path))


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (2000, 4), (4, 2000)])
def test_very_small_and_very_thin_pictures(cli, photo_file, identity_weights, tmp_path, size):
    path = photo_file("a.png", *size)
    out = tmp_path / "out.png"
    assert cli("derain", path, "--weights", identity_weights, "-o", out).exit_code == 0
    np.testing.assert_array_equal(pixels_of(out), pixels_of(path))


def test_gray_stays_gray_and_alpha_is_carried(cli, picture, identity_weights, tmp_path):
    planes = picture(20, 28)
    gray, clear = tmp_path / "gray.png", tmp_path / "clear.png"
    Image.fromarray(planes[..., 0]).save(gray)
    Image.fromarray(np.dstack([planes, planes[..., 1]])).save(clear)
    outcome = cli("derain", gray, clear, "--weights", identity_weights, "-o", tmp_path / "out")
    assert outcome.exit_code == 0
    np.testing.assert_array_equal(pixels_of(tmp_path / "out" / "gray.png"), planes[..., 0])
    np.testing.assert_array_equal(pixels_of(tmp_path / "out" / "clear.png")[..., 3], planes[..., 1])


def test_the_same_pixels_whatever_the_order_and_company(cli, photo_file, random_weights, tmp_path):
    a, b = photo_file("a.png", 40, 48), photo_file("b.png", 24, 80)
    for out, order in (("one", [a, b]), ("two", [b, a]), ("three", [a])):
        cli("derain", *order, "--weights", random_weights, "-o", tmp_path / out / "x", "-q")
    first = (tmp_path / "one" / "x" / "a.png").read_bytes()
    assert first != a.read_bytes()
    assert first == (tmp_path / "two" / "x" / "a.png").read_bytes()
    assert first == (tmp_path / "three" / "x" / "a.png").read_bytes()


def test_a_folder_keeps_its_tree_and_names_and_json_tells_each_file(
    cli, photo_file, identity_weights, tmp_path
):
    for name in ("in/2.png", "in/10.jpg", "in/deep/3.webp", "in/.hidden.png"):
        photo_file(name)
    (tmp_path / "in" / "notes.txt").write_text("not a picture")
    (tmp_path / "in" / "broken.png").write_text("not a picture either")
    outcome = cli(
        "derain",
        tmp_path / "in",
        "-r",
        "--weights",
        identity_weights,
        "--json",
        "-o",
        tmp_path / "o",
    )
    assert outcome.exit_code == 1
    assert files_in(tmp_path / "o") == ["10.jpg", "2.png", "deep/3.webp"]
    *rows, last = outcome.lines
    assert [Path(row["input"]).name for row in rows] == ["2.png", "10.jpg", "broken.png", "3.webp"]
    assert [row["status"] for row in rows] == ["ok", "ok", "failed", "ok"]
    assert rows[0]["exact"] is True
    assert rows[0]["peak_memory_bytes"] > 10_000_000
    assert rows[0]["predicted_memory_bytes"] > 10_000_000
    assert rows[0]["strip_rows"] == plan.MOST_STRIP_ROWS  # small pictures: one strip
    assert last["counts"] == {"ok": 3, "failed": 1, "skipped": 0}
    assert last["notes"] == ["1 other file(s) ignored"]
    assert last["settings"]["model_sha256"]


def test_a_folder_without_o_goes_beside_itself_and_is_not_read_again(
    cli, photo_file, identity_weights, tmp_path
):
    photo_file("in/a.png")
    photo_file("in/a.derain.png")  # what `restore derain in/a.png` left here
    assert cli("derain", tmp_path / "in", "--weights", identity_weights).exit_code == 0
    assert files_in(tmp_path / "in.derain") == ["a.png"]


def test_nothing_that_exists_is_overwritten_unasked(cli, photo_file, identity_weights, tmp_path):
    path, there = photo_file("a.png"), photo_file("a.derain.png", 8, 8)
    precious = there.read_bytes()
    options = ("derain", path, "--weights", identity_weights)
    refused = cli(*options)
    assert refused.exit_code == OutputError.exit_code
    assert "--overwrite" in refused.stderr
    assert there.read_bytes() == precious
    kept = cli(*options, "--skip-existing", "--json")
    assert kept.exit_code == 0
    assert kept.lines[0]["status"] == "skipped"
    assert there.read_bytes() == precious
    assert cli(*options, "--overwrite").exit_code == 0
    np.testing.assert_array_equal(pixels_of(there), pixels_of(path))


def test_two_inputs_for_one_output_are_found_before_any_work(
    cli, photo_file, identity_weights, tmp_path
):
    one, two = photo_file("x/a.png"), photo_file("y/A.png")
    outcome = cli("derain", one, two, "--weights", identity_weights, "-o", tmp_path / "out")
    assert outcome.exit_code == OutputError.exit_code
    assert "both become" in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_a_result_never_replaces_an_input(cli, photo_file, identity_weights):
    path = photo_file("a.png")
    before = path.read_bytes()
    outcome = cli("derain", path, "--weights", identity_weights, "-o", path.parent, "--overwrite")
    assert outcome.exit_code == OutputError.exit_code
    assert path.read_bytes() == before


def test_dry_run_writes_nothing_and_says_what_would_be(cli, photo_file):
    path = photo_file("a.png")
    outcome = cli("derain", path, "-n", "--json")
    assert outcome.exit_code == 0
    assert outcome.lines == [
        {"input": str(path), "output": str(path.with_name("a.derain.png")), "status": "planned"}
    ]
    assert files_in(path.parent) == ["a.png"]


def test_tiles_of_an_identity_give_the_picture_back(cli, photo_file, identity_weights, tmp_path):
    path = photo_file("a.png", 90, 130)
    out = tmp_path / "out.png"
    outcome = cli(
        "derain", path, "--weights", identity_weights, "-o", out,
        "--tile", 48, "--overlap", 16, "--json",
    )  # fmt: skip
    assert outcome.lines[0]["exact"] is False
    assert outcome.lines[0]["tile_px"] == 48
    np.testing.assert_array_equal(pixels_of(out), pixels_of(path))


BAD_INPUTS = {
    "missing.png": (None, "no such file"),
    "text.png": (b"hello", "not an image"),
    "empty.png": (b"", "0 bytes"),
    "cut.jpg": ("cut", "truncated"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_a_bad_file_gets_one_sentence_and_code_3(cli, photo_file, identity_weights, tmp_path, name):
    content, sentence = BAD_INPUTS[name]
    path = tmp_path / name
    if content == "cut":
        whole = photo_file("whole.jpg", 64, 64)
        path.write_bytes(whole.read_bytes()[:-400])
        whole.unlink()
    elif content is not None:
        path.write_bytes(content)
    before = files_in(tmp_path)
    outcome = cli("derain", path, "--weights", identity_weights)
    assert outcome.exit_code == InputError.exit_code
    assert sentence in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert files_in(tmp_path) == before


def test_an_empty_folder_is_no_usable_input(cli, identity_weights, tmp_path):
    (tmp_path / "in").mkdir()
    outcome = cli("derain", tmp_path / "in", "--weights", identity_weights)
    assert outcome.exit_code == InputError.exit_code


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--tile", "500"], UsageError.exit_code, "Try 496 or 504"),
        (["--overlap", "-3"], UsageError.exit_code, "--overlap"),
        (["--device", "cuda:77"], DeviceError.exit_code, "no CUDA device 77"),
        (["--device", "tpu"], UsageError.exit_code, "--device"),
        (["--precision", "fp64"], UsageError.exit_code, "--precision"),
        (["--model", "restormer-deblur"], WeightsError.exit_code, "not for derain"),
        (
            ["--model", "restormer-derain"],
            WeightsError.exit_code,
            "restore models import deraining.pth",
        ),
        (["--weights", "nowhere.pth"], WeightsError.exit_code, "no weights file"),
        (["--overwrite", "--skip-existing"], UsageError.exit_code, "contradict"),
        (["-o", "a.gif/b.tiff/c"], 0, ""),
        (["--nonsense"], UsageError.exit_code, "--nonsense"),
    ],
)
def test_bad_options_end_before_any_work(cli, photo_file, monkeypatch, options, code, sentence):
    path = photo_file("a.png")
    monkeypatch.chdir(path.parent)
    outcome = cli("derain", path, *options)
    assert outcome.exit_code == code
    assert sentence in outcome.stderr
    if code:
        assert files_in(path.parent) == ["a.png"]


def test_an_output_below_a_file_is_refused_and_the_others_go_on(
    cli, photo_file, identity_weights, tmp_path
):
    path = photo_file("a.png")
    (tmp_path / "wall").write_text("a file, not a folder")
    outcome = cli("derain", path, "--weights", identity_weights, "-o", tmp_path / "wall" / "out")
    assert outcome.exit_code == OutputError.exit_code
    assert "Traceback" not in outcome.stderr
    assert (tmp_path / "wall").read_text() == "a file, not a folder"


def test_transparency_is_refused_for_jpeg_before_the_network_runs(
    cli, picture, identity_weights, tmp_path
):
    Image.fromarray(picture(16, 16)).convert("RGBA").save(tmp_path / "a.png")
    outcome = cli(
        "derain", tmp_path / "a.png", "--weights", identity_weights, "-o", tmp_path / "b.jpg"
    )
    assert outcome.exit_code == OutputError.exit_code
    assert not (tmp_path / "b.jpg").exists()


def test_names_that_steer_terminals_are_shown_harmlessly(cli, identity_weights, tmp_path):
    path = tmp_path / "a\x1b[31m[bold]\n.png"
    path.write_text("no picture")
    outcome = cli("derain", path, "--weights", identity_weights)
    assert outcome.exit_code == InputError.exit_code
    assert "\x1b" not in outcome.stderr
    assert "[bold]" in outcome.stderr


@pytest.fixture
def engine(identity_weights, monkeypatch):
    """An engine whose memory holds ``limit_px`` pixels, and strips of ``most_rows``."""

    def make(tile, limit_px, most_rows=1000):
        by_strips = engines.restored_rows

        def limited(network, read, size, **options):
            if size[0] * size[1] > limit_px or options["strip_rows"] > most_rows:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 bytes")
            return by_strips(network, read, size, **options)

        monkeypatch.setattr(engines, "restored_rows", limited)
        model = ChosenModel(file=CheckpointFile(identity_weights))
        return engines.prepare(EngineSettings(model=model, device="cpu", tile=tile, overlap_px=32))

    return make


def test_out_of_memory_halves_an_automatic_tile(engine, picture):
    pixels = picture(300, 300)
    restored, used = engine(-1, 160 * 160).restore(pixels)
    assert used.tile_px == 144
    np.testing.assert_array_equal(restored, pixels)


@pytest.mark.parametrize("tile", [-1, None, 256])
def test_out_of_memory_lowers_the_strips_before_anything_that_changes_pixels(engine, picture, tile):
    pixels = picture(300, 300)
    restored, used = engine(tile, 300 * 300, most_rows=8).restore(pixels)
    assert (used.tile_px, used.strip_rows) == (256 if tile == 256 else None, 8)
    np.testing.assert_array_equal(restored, pixels)


@pytest.mark.parametrize("tile", [None, 256])
def test_out_of_memory_never_changes_an_explicit_tile(engine, picture, tile):
    with pytest.raises(DeviceError, match="Out of memory"):
        engine(tile, 100).restore(picture(300, 300))


def test_an_image_that_fits_nowhere_is_a_device_error(engine, picture):
    with pytest.raises(DeviceError, match="Out of memory"):
        engine(-1, 100).restore(picture(300, 300))


def test_little_free_memory_means_tiles(cli, photo_file, identity_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "free_bytes", lambda device: 1)
    path, out = photo_file("a.png", 200, 300), tmp_path / "out.png"
    outcome = cli("derain", path, "--weights", identity_weights, "-o", out, "--json")
    assert outcome.lines[0]["tile_px"] == plan.SMALLEST_TILE_PX
    np.testing.assert_array_equal(pixels_of(out), pixels_of(path))


def test_max_memory_means_lower_strips_then_tiles_and_is_obeyed(cli, photo_file, monkeypatch):
    has_kernels = kernels.usable(torch.device("cpu"), torch.float32)
    held = 300_000_000 + has_kernels * memory.KERNEL_BYTES
    monkeypatch.setattr(engines, "held_bytes", lambda device: 300_000_000)
    path = photo_file("a.png", 600, 500)
    lower_mb = 75 if has_kernels else 90  # where steps are fused, strips take less
    rows = {}
    for extra_mb in (1000, lower_mb, 55):
        limit = held + extra_mb * 1_000_000
        bound = ("--max-memory", f"{limit}B", "--precision", "fp32")
        outcome = cli("derain", path, *bound, "--overwrite", "--json")
        rows[extra_mb] = outcome.lines[0]
        assert rows[extra_mb]["predicted_memory_bytes"] <= limit
    assert rows[1000]["strip_rows"] == plan.MOST_STRIP_ROWS
    assert rows[lower_mb]["exact"]
    assert rows[lower_mb]["strip_rows"] < plan.MOST_STRIP_ROWS
    assert not rows[55]["exact"]
    assert rows[55]["tile_px"] < 600


@pytest.mark.parametrize("tile", ["auto", "none", "136"])
def test_memory_that_no_plan_can_keep_is_a_device_error(cli, photo_file, tile):
    path = photo_file("a.png", 200, 300)
    outcome = cli("derain", path, "--max-memory", "1MB", "--tile", tile)
    assert outcome.exit_code == DeviceError.exit_code
    assert "do not fit into --max-memory 1 MB" in outcome.stderr
    assert files_in(path.parent) == ["a.png"]


def test_bench_measures_the_installed_networks(cli):
    outcome = cli("bench", "--size", "40x24", "--model", "hint-derain-packed", "--json")
    assert outcome.exit_code == 0
    (measured,) = outcome.lines[0]["measured"]
    assert (measured["width_px"], measured["height_px"]) == (40, 24)
    assert measured["model_id"] == "hint-derain-packed"
    assert measured["exact"] is True
    assert measured["s_per_megapixel"] == pytest.approx(measured["elapsed_s"] / (40 * 24 / 1e6))
    assert measured["peak_memory_bytes"] > 100_000_000  # PyTorch alone


def test_bench_says_why_and_keeps_it(cli, tmp_path):
    kept = tmp_path / "log.txt"
    arguments = ("bench", "--size", "40x24", "--model", "hint-denoise-packed", "--log", kept)
    assert "Device cpu" not in cli(*arguments).stderr
    said = cli(*arguments, "-v").stderr
    for reason in ("Device cpu: ", "40×24 pixels: the whole picture"):
        assert reason in said
        assert kept.read_text(encoding="utf-8").count(reason) == 2


def test_the_table_of_bench_fits_a_terminal_of_80_columns(cli, monkeypatch):
    def measured(trial):
        return bench.Measured(
            model_id=trial.model_id, device="cpu", precision="fp32", height_px=4096,
            width_px=4096, elapsed_s=1234.5678, s_per_megapixel=73.58512,
            predicted_memory_bytes=12_345_678_900, peak_memory_bytes=9_876_543_210,
            exact=trial.model_id != "hint-derain-packed", strip_rows=16, tile_px=1024,
        )  # fmt: skip

    monkeypatch.setattr(bench, "measure", measured)
    longest = max(registry(), key=len)
    models = ("--model", longest, "--model", "hint-derain-packed")
    outcome = cli("bench", *models, "--size", "4096x4096")
    lines = outcome.stdout.splitlines()
    assert "4096×4096 pixels, cpu, fp32" in lines[0]
    assert max(map(len, lines)) <= 80
    (row,) = (line for line in lines if longest in line)
    assert row.replace("│", " ").split() == [
        longest, "1234.57", "73.59", "9877", "(12346)", "16", "rows",
    ]  # fmt: skip
    assert "(1024 px)" in outcome.stdout


def test_bench_of_a_network_that_is_not_here_ends_with_its_code(cli):
    outcome = cli("bench", "--size", "40x24", "--model", "restormer-derain")
    assert outcome.exit_code == WeightsError.exit_code
    assert "is not installed" in outcome.stderr
    assert cli("bench", "--size", "12").exit_code == 2


def test_values_that_are_not_finite_are_never_written(cli, photo_file, tmp_path):
    torch.manual_seed(0)
    network = NETWORKS["hint"](**TINY)
    torch.nn.init.constant_(network.output.weight, 3e38)
    weights = save_weights(tmp_path / "huge.safetensors", network, "hint", TINY)
    path = photo_file("a.png")
    outcome = cli("derain", path, "--weights", weights)
    assert outcome.exit_code == 1
    assert "not finite" in outcome.stderr
    assert not path.with_name("a.derain.png").exists()


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_precisions_agree_about_what_is_seen(cli, photo_file, tmp_path, precision):
    path = photo_file("a.png", 64, 64)
    reference, out = tmp_path / "r.png", tmp_path / "out.png"
    cli("derain", path, "-o", reference, "--precision", "fp32")
    cli("derain", path, "-o", out, "--precision", precision)
    assert not np.array_equal(pixels_of(reference), pixels_of(path))
    difference = np.abs(pixels_of(out).astype(int) - pixels_of(reference))
    assert difference.mean() < (1 if precision == "bf16" else 1e-9)


def test_a_gray_network_refuses_colour(cli, photo_file, picture, tmp_path):
    options = {**TINY, "inp_channels": 1, "out_channels": 1}
    weights = save_weights(
        tmp_path / "gray.safetensors", NETWORKS["restormer"](**options), "restormer", options
    )
    Image.fromarray(picture(16, 16)[..., 0]).save(tmp_path / "gray.png")
    refused = cli("denoise", photo_file("colour.png"), "--weights", weights)
    assert refused.exit_code == InputError.exit_code
    assert "gray pictures" in refused.stderr
    assert cli("denoise", tmp_path / "gray.png", "--weights", weights).exit_code == 0


def test_scores_in_the_same_pass_are_those_of_restore_metrics(
    cli, photo_file, random_weights, tmp_path
):
    for name in ("in/a.png", "in/b.jpg", "ref/a.png", "ref/b.png"):
        photo_file(name, 40 if "a." in name else 56, 48)
    out = tmp_path / "out"
    reports = [tmp_path / f"r.{kind}" for kind in ("json", "csv", "md", "html", "jsonl")]
    outcome = cli(
        "derain", tmp_path / "in", "-o", out, "--weights", random_weights, "--json",
        "--ref", tmp_path / "ref", *(f"--report={path}" for path in reports),
    )  # fmt: skip
    assert outcome.exit_code == 0
    *rows, last = outcome.lines
    assert rows[0]["scores_before"]["psnr_y"] == "Infinity"
    assert last["settings"]["protocol"] == "rain"
    again = cli("metrics", out, "--ref", tmp_path / "ref", "--protocol", "rain", "--json")
    assert [r["scores_after"] for r in again.lines[:-1]] == [r["scores_after"] for r in rows]
    assert all(path.stat().st_size > 100 for path in reports)
    assert "psnr_y" in outcome.stderr.lower().replace("psnr-y", "psnr_y")


def test_a_picture_that_cannot_be_scored_is_restored_all_the_same(
    cli, photo_file, random_weights, tmp_path
):
    photo_file("in/a.png", 40, 48)
    photo_file("ref/a.png", 40, 56)
    out = tmp_path / "out"
    options = ("derain", tmp_path / "in", "-o", out, "--weights", random_weights, "--json")
    outcome = cli(*options, "--ref", tmp_path / "ref")
    assert outcome.exit_code == 0
    row = outcome.lines[0]
    assert (row["status"], row["output"]) == ("ok", str(out / "a.png"))
    assert row["scores_after"] == {}
    assert "not scored" in row["notes"][0]


def test_a_missing_reference_is_found_before_any_work(cli, photo_file, random_weights, tmp_path):
    for name in ("in/a.png", "in/b.png", "ref/b.png"):
        photo_file(name)
    options = ("derain", tmp_path / "in", "-o", tmp_path / "out", "--weights", random_weights)
    refused = cli(*options, "--ref", tmp_path / "ref")
    assert refused.exit_code in (UsageError.exit_code, InputError.exit_code)
    assert not (tmp_path / "out").exists()
    allowed = cli(*options, "--ref", tmp_path / "ref", "--allow-missing", "--json")
    assert allowed.exit_code == 0
    assert allowed.lines[0]["scores_after"] == {}
    assert allowed.lines[1]["scores_after"]


def test_version_and_doctor_answer(cli):
    assert cli("--version").stdout == f"restore {__version__}\n"
    found = cli("doctor", "--json", "--offline").lines[0]
    assert "hint-derain-packed" in found["installed networks"]
    assert found["hub"] == "not asked"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_with_130_a_summary_and_no_half_file(
    photo_file, tmp_path, signal_number
):
    for i in range(40):
        photo_file(f"in/{i}.png", 256, 256)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "restorecli", "derain", tmp_path / "in", "-o", out, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal_number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert json.loads(stdout.splitlines()[-1])["interrupted"] is True
    done = [p for p in out.iterdir() if not p.name.startswith(".")]
    assert 0 < len(done) < 40
    assert files_in(out) == sorted(p.name for p in done)
    for path in done:
        assert pixels_of(path).shape == (256, 256, 3)


def test_a_file_and_a_quality_contradict_each_other(cli, photo_file, identity_weights):
    outcome = cli("derain", photo_file(), "--weights", identity_weights, "--effort", "best")
    assert outcome.exit_code == UsageError.exit_code
    assert "--effort and --weights" in outcome.stderr
    old = cli("derain", photo_file(), "--quality", "fast", "--dry-run")
    assert old.exit_code == 0
    assert "--quality is called --effort now" in old.stderr
    taken_for_jpeg = cli("derain", photo_file(), "--quality", "90")
    assert taken_for_jpeg.exit_code == 2
    assert "--jpeg-quality" in taken_for_jpeg.stderr
