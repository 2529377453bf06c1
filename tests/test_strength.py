"""How much of a restoration is made: strength, and the mean over eight ways up."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

import restorecli
from restorecli.engine.ensemble import MIRRORED, WAYS, way
from restorecli.engine.plan import Demand
from restorecli.errors import UsageError
from restorecli.runs.manifest import MANIFEST
from tests.conftest import pixels_of


@pytest.fixture
def engine(random_weights):
    return restorecli.load(random_weights, device="cpu")


def in_type(pixels, dtype):
    """The picture in another type, with values between those of 8 bits."""
    noise = np.random.default_rng(1).random(pixels.shape)
    values = np.clip((pixels + noise) / 256, 0, 1)
    most = {np.uint8: 255, np.uint16: 65_535, np.float32: 1}[dtype]
    return (values * most).astype(dtype)


def written(path, pixels):
    if pixels.dtype == np.float32 or (pixels.ndim == 3 and pixels.dtype == np.uint16):
        tifffile.imwrite(path, pixels, photometric="rgb")
    else:
        Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_0_gives_the_pixels_back_and_1_what_was_made_without_it(
    cli, picture, random_weights, tmp_path, dtype
):
    before = in_type(picture(37, 29), dtype)
    source = written(tmp_path / "a.tif", before)
    results = []
    for name, options in (("none", ()), ("all", ("--strength", 1)), ("no", ("--strength", 0))):
        out = tmp_path / f"{name}.tif"
        outcome = cli("derain", source, "-o", out, "--weights", random_weights, *options)
        assert outcome.exit_code == 0, outcome.stderr
        results.append(out)
    plain, whole, nothing = results
    assert whole.read_bytes() == plain.read_bytes()
    np.testing.assert_array_equal(tifffile.imread(nothing), before)
    assert not np.array_equal(tifffile.imread(plain), before)


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_between_them_values_as_they_are_in_the_file_are_mixed(engine, picture, dtype, gray):
    before = in_type(picture(32, 40)[..., 0] if gray else picture(32, 40), dtype)
    exactly, _ = engine.restore(before, dtype=np.float32)
    white = np.iinfo(dtype).max
    for strength in (0.25, 0.8):
        mixed, _ = replace(engine, strength=strength).restore(before)
        expected = before + strength * (exactly * white - before.astype(float))
        assert mixed.dtype == dtype
        assert np.abs(mixed - expected).max() < 0.51 + white / 2**20  # rounding, float32 and gray


def test_results_of_more_bits_hold_the_mixture_of_the_same_values(engine, picture):
    before = picture(24, 24)
    nothing, _ = replace(engine, strength=0.0).restore(before, dtype=np.uint16)
    np.testing.assert_array_equal(nothing, before.astype(np.uint16) * 257)


def test_what_is_transparent_or_gray_stays_so_at_any_strength(
    cli, picture, random_weights, tmp_path
):
    planes = np.dstack([picture(24, 32), np.full((24, 32), 255, np.uint8)])
    planes[:8, :8, 3] = 0
    source = written(tmp_path / "a.png", planes)
    out = tmp_path / "o.png"
    for strength in (0, 0.5):
        outcome = cli("derain", source, "-o", out, "--weights", random_weights, "--overwrite",
                      "--strength", strength)  # fmt: skip
        assert outcome.exit_code == 0
        made = pixels_of(out)
        np.testing.assert_array_equal(made[..., 3], planes[..., 3])
        np.testing.assert_array_equal(made[:8, :8], planes[:8, :8])
        assert np.array_equal(made, planes) == (strength == 0)


def test_strength_and_ensemble_are_known_to_manifest_resume_and_report(
    cli, photo_file, random_weights, tmp_path
):
    photo_file("in/a.png", 8, 16)
    run = ("derain", tmp_path / "in", "-o", tmp_path / "out", "--weights", random_weights, "--json")
    first = cli(*run, "--strength", "0.50", "--ensemble")
    assert first.exit_code == 0, first.stderr
    known = {"strength": "0.5", "ensemble": "mean over flips and turns"}
    assert known.items() <= first.lines[-1]["settings"]["options"].items()
    record = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert known.items() <= record["options"].items()
    again = ("--resume", "--strength", ".5")
    assert cli(*run, *again, "--ensemble").lines[0]["status"] == "skipped"
    assert cli(*run, *again).lines[0]["status"] == "ok"  # another result
    assert cli(*run, "--resume").lines[0]["status"] == "ok"


@pytest.mark.parametrize("text", ["1.1", "-0.1", "half", "nan", "50%", ""])
def test_other_strengths_are_refused(cli, photo_file, text):
    refused = cli("derain", photo_file("a.png"), f"--strength={text}")
    assert refused.exit_code == UsageError.exit_code
    assert f"--strength {text!r} is not a number from 0 to 1" in refused.stderr


def test_eight_ways_are_all_there_are():
    seen = {
        way(np.arange(6).reshape(2, 3), number).tobytes() + bytes([number % 2]) for number in WAYS
    }
    assert len(seen) == len(WAYS)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_ensemble_is_the_mean_of_eight_results_turned_back(engine, picture, dtype):
    before = in_type(picture(13, 18), dtype)
    total = np.zeros(before.shape)
    for number in WAYS:
        alone, _ = engine.restore(np.ascontiguousarray(way(before, number)), dtype=np.float32)
        way(total, number)[:] += alone
    mean, plan = replace(engine, ensemble=True).restore(before)
    expected = total / len(WAYS) * np.iinfo(dtype).max
    assert np.abs(mean - expected).max() < 0.505
    assert plan.exact
    plain, _ = engine.restore(before)
    assert not np.array_equal(mean, plain)


def test_a_network_for_what_falls_is_given_the_picture_and_its_mirror_image(
    engine, picture, monkeypatch
):
    falling = replace(engine, model=replace(engine.model, turns=True))
    monkeypatch.setattr(type(engine), "_is_better_turned", lambda *_: False)
    before = picture(13, 18)
    alone = [
        way(falling.restore(np.ascontiguousarray(way(before, n)), dtype=np.float32)[0], n)
        for n in MIRRORED
    ]
    mean, _ = replace(falling, ensemble=True).restore(before, dtype=np.float32)
    np.testing.assert_allclose(mean, sum(alone) / 2, atol=1e-6)


def test_the_ensemble_of_a_turned_picture_is_the_turned_ensemble(engine, picture):
    before = picture(13, 18)
    together = replace(engine, ensemble=True)
    upright, _ = together.restore(before)
    for number in (1, 6):
        turned, _ = together.restore(np.ascontiguousarray(way(before, number)))
        np.testing.assert_array_equal(turned, way(upright, number))


def test_low_strips_and_gray_pictures_change_nothing_of_the_ensemble(engine, picture):
    together = replace(engine, ensemble=True)
    gray = picture(24, 16)[..., 1]
    plan = together.plan(gray.shape, np.uint8)
    assert plan.strip_rows > 8
    whole, _ = together.restore(gray, plan=plan)
    low, _ = together.restore(gray, plan=replace(plan, strip_rows=8, keep_bytes=0))
    assert whole.shape == gray.shape
    np.testing.assert_array_equal(low, whole)


def test_the_memory_of_an_ensemble_is_planned(engine):
    sides = {"network": engine.model.network, "bytes_per_value": 4, "bytes_per_result": 1}
    how = {"strip_rows": 8, "keep_bytes": 0}
    wide, high = (
        Demand(size=size, **sides).needed(None, **how) for size in ((200, 900), (900, 200))
    )
    together = Demand(size=(900, 200), ensemble=True, **sides)
    assert wide > high
    assert together.needed(None, **how) == wide + 4 * 3 * 900 * 200
    assert together.strip_heights(None) == Demand(size=(200, 900), **sides).strip_heights(None)


def test_an_ensemble_that_gives_no_numbers_writes_nothing(
    cli, photo_file, tmp_path, monkeypatch, random_weights
):
    from restorecli.engine import engine as engines

    def spoiled(*arguments, **options):
        for start, rows in real(*arguments, **options):
            yield start, rows * float("nan")

    real = engines.restored_rows
    monkeypatch.setattr(engines, "restored_rows", spoiled)
    outcome = cli("derain", photo_file("a.png"), "--weights", random_weights, "--ensemble")
    assert outcome.exit_code == 1
    assert "values that are not finite" in outcome.stderr


@pytest.mark.parametrize("option", [("--strength", "0.5"), ("--ensemble",)])
def test_neither_goes_with_the_way_of_the_authors(cli, photo_file, option):
    refused = cli(
        "derain", photo_file("a.png"), "--model", "hint-derain", "-n", *option,
        "--protocol", "published",
    )  # fmt: skip
    assert refused.exit_code == UsageError.exit_code
    assert f"{option[0]} contradicts --protocol published" in refused.stderr
