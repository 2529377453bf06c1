"""``restore check`` and ``restore auto``: what is said of a picture, and what is done about it."""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
import skimage.data
from PIL import Image

from restorecli.degradations.kinds import KINDS, degraded
from restorecli.scoring.faults import check, measures, verdict
from tests.conftest import pixels_of
from training import faults

SIDE_PX = 256
NOTHING = "Nothing to do"
PLAIN = {"rain": 0, "snow": 5, "haze": 3, "noise": 1, "dark": 5, "motion": 0}  # seeds that show it


@pytest.fixture(scope="module")
def photograph():
    """A good one, at half its size: float32 (256, 256, 3)."""
    whole = Image.fromarray(skimage.data.astronaut()).resize(
        (SIDE_PX, SIDE_PX), Image.Resampling.BOX
    )
    return np.asarray(whole, np.float32) / np.float32(255)


@pytest.fixture
def saved(tmp_path, photograph):
    """Save the photograph, spoiled or not, and return its path."""

    def save(name, kind=None, **how):
        picture = degraded(kind, photograph, PLAIN[kind], 1.5) if kind else photograph
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(picture * 255).astype(np.uint8)).save(path, **how)
        return path

    return save


def told(outcome):
    """The advice: the last line on standard output."""
    return outcome.stdout.splitlines()[-1]


def test_a_good_photograph_gets_nothing_to_do_and_nothing_is_written(cli, saved, tmp_path):
    path = saved("good.png")
    outcome = cli("check", path)
    assert outcome.exit_code == 0
    assert told(outcome).startswith(NOTHING)
    assert "restore " not in outcome.stdout.replace("restore mends", "")
    outcome = cli("auto", path)
    assert outcome.exit_code == 0
    assert NOTHING in outcome.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["good.png"]


@pytest.mark.parametrize("kind", PLAIN)
def test_what_is_plainly_wrong_is_named_with_the_command_that_mends_it(cli, saved, kind):
    path = saved("a b.png", kind)
    outcome = cli("check", path)
    assert outcome.exit_code == 0
    assert told(outcome).endswith(f"restore {KINDS[kind].task} {shlex.quote(str(path))}")


def test_every_fault_has_the_task_that_undoes_it():
    assert {name: kind.task for name, kind in KINDS.items()} == verdict.TASKS


def test_auto_says_it_and_runs_the_command_it_named(cli, saved, tmp_path):
    noisy = saved("noisy.png", "noise")
    dry = cli("auto", noisy, "-n")
    assert "would write" in dry.stderr
    assert len(list(tmp_path.iterdir())) == 1
    outcome = cli("auto", noisy)
    assert outcome.exit_code == 0
    assert told(outcome).endswith(f"restore denoise {noisy}")
    by_hand = cli("denoise", noisy, "-o", tmp_path / "by_hand.png")
    assert by_hand.exit_code == 0
    np.testing.assert_array_equal(
        pixels_of(tmp_path / "noisy.denoise.png"), pixels_of(tmp_path / "by_hand.png")
    )
    again = cli("auto", noisy)
    assert again.exit_code == 2
    assert "would be overwritten" in again.stderr


def test_auto_keeps_the_tree_and_leaves_good_pictures_out(cli, saved, tmp_path):
    saved("in/good.png")
    saved("in/below/noisy.png", "noise")
    saved("in/below/dark.png", "dark")
    outcome = cli("auto", tmp_path / "in", "-r", "-o", tmp_path / "out", "--json")
    assert outcome.exit_code == 0
    made = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png")}
    assert made == {"below/noisy.png", "below/dark.png"}
    kinds = [line["type"] for line in outcome.lines]
    assert kinds == ["check"] * 3 + ["checked", *["image", "summary"] * 2]


def test_json_has_a_line_for_each_picture_and_a_last_one(cli, saved, tmp_path):
    saved("in/good.jpg", quality=80)
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot")
    outcome = cli("check", tmp_path / "in", "--json")
    assert outcome.exit_code == 1
    broken, good, last = outcome.lines
    assert (broken["status"], "damaged" in broken["error"]) == ("failed", True)
    assert (good["verdict"], good["command"], good["jpeg_quality"]) == ("nothing", None, 80)
    assert set(good["chances"]) == set(KINDS)
    assert last == {"type": "checked", "counts": {"failed": 1, "nothing": 1}}


def test_standard_input_can_be_checked_but_not_mended(cli, saved, monkeypatch):
    data = saved("good.png").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    outcome = cli("check", "-")
    assert outcome.exit_code == 0
    assert NOTHING in outcome.stdout
    outcome = cli("auto", "-")
    assert outcome.exit_code == 2
    assert "restore check -" in outcome.stderr


def test_what_is_no_picture_is_one_sentence(cli, tmp_path):
    (tmp_path / "notes.txt").write_text("not a picture")
    for path in (tmp_path / "notes.txt", tmp_path / "nowhere.png", tmp_path):
        for command in ("check", "auto"):
            outcome = cli(command, path)
            assert outcome.exit_code == 3
            assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("quality", [20, 50, 75, 90, 95])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(saved, quality):
    found = check.check_file(saved("a.jpg", quality=quality)).jpeg_quality
    assert found == pytest.approx(quality, abs=1)
    assert check.check_file(saved("a.png")).jpeg_quality is None


def test_coarse_jpeg_is_told_where_nothing_can_be_done(cli, saved):
    outcome = cli("check", saved("a.jpg", quality=45))
    if NOTHING in outcome.stdout:
        assert "JPEG blocks stay" in outcome.stdout


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (40, 30, 3), (700, 20, 3)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_every_picture_has_measures_whatever_its_size(shape, value):
    pixels = np.full(shape, value, np.uint8)
    assert np.isfinite(list(measures.measure(pixels).values())).all()
    assert verdict.judge(pixels).fault in {None, "dark"}


def test_the_measured_noise_is_that_of_the_picture(photograph):
    flat = np.full((256, 256), 0.5, np.float32)
    for sigma in (3, 10, 25):
        noise = np.random.default_rng(0).normal(0, sigma, flat.shape)
        pixels = np.rint(np.clip(flat * 255 + noise, 0, 255)).astype(np.uint8)
        assert verdict.judge(pixels).noise_sigma == pytest.approx(sigma, rel=0.2)


def test_a_large_picture_is_judged_as_it_looks_smaller():
    assert measures.reduced(np.zeros((3000, 4500, 3), np.uint8)).shape == (1365, 2048, 3)
    assert measures.reduced(np.zeros((30, 45), np.uint8)).shape == (30, 45, 3)


def test_a_doubt_recommends_nothing():
    network = replace(
        verdict.network(),
        limits=dict.fromkeys(verdict.FAULTS, 0.9),
        doubts=dict.fromkeys(verdict.FAULTS, 0.6),
    )
    chances = dict.fromkeys(verdict.FAULTS, 0.01)
    doubt = network.decided(chances | {"haze": 0.7}, {})
    assert (doubt.fault, doubt.perhaps, doubt.task) == (None, "haze", None)
    sure = network.decided(chances | {"haze": 0.95, "noise": 0.92}, {})
    assert (sure.fault, sure.perhaps, sure.task) == ("haze", None, "dehaze")
    good = network.decided(chances | {"haze": 0.59}, {})
    assert (good.fault, good.perhaps) == (None, None)


def test_the_numbers_that_ship_are_few_and_fit_the_measures():
    network = verdict.network()
    assert set(network.measures) <= set(measures.names())
    assert set(network.limits) == set(verdict.FAULTS)
    file = resources.files("restorecli.scoring.faults") / verdict.NUMBERS
    assert len(file.read_bytes()) < 50_000
    assert all(0.5 <= network.doubts[f] <= network.limits[f] for f in verdict.FAULTS)


def test_names_that_look_like_options_or_have_spaces_can_be_typed_as_printed(monkeypatch):
    assert check.quoted("-x.jpg") == "./-x.jpg"
    assert re.fullmatch(r"'a b.jpg'", check.quoted("a b.jpg"))
    assert check.quoted("a.jpg") == "a.jpg"
    monkeypatch.setattr(check.os, "name", "nt")
    assert check.quoted("a b.jpg") == '"a b.jpg"'


@pytest.fixture
def good_ones(tmp_path, saved):
    saved("photos/a.png")
    saved("photos/b.png")
    saved("photos/held.png")
    (tmp_path / "held_out.txt").write_text("held.png\n")
    return tmp_path / "photos"


def test_samples_are_the_same_for_a_seed_and_leave_out_what_is_named(good_ones, tmp_path):
    def sampled(seed):
        output = tmp_path / f"{seed}.npz"
        faults.main(
            f"sample --photos {good_ones} --leave-out {tmp_path}/held_out.txt --seed {seed} "
            f"--count 5 -o {output}".split()
        )
        return np.load(output)

    one, again, other = sampled(3), sampled(3), sampled(4)
    assert one["rows"].shape == (5, len(measures.names()))
    np.testing.assert_array_equal(one["rows"], again["rows"])
    assert (one["rows"] != other["rows"]).any()
    assert (one["labels"][0] == 0).all(), "every third one is good"
    assert set(one["groups"]) <= {0, 1}
    read = faults.photographs_of([good_ones], lambda name: name != "held.png")
    assert [path.name for path in read] == ["a.png", "b.png"]


def test_a_fault_is_learnt_only_where_it_can_be_seen(photograph):
    labels = np.zeros(len(verdict.FAULTS), np.float32)
    at = verdict.FAULTS.index("noise")
    rng = np.random.default_rng(0)
    for sigma, expected in ((1, 0.0), (4, np.nan), (15, 1.0)):
        noisy = photograph + rng.normal(0, sigma / 255, photograph.shape)
        faults.label(labels, "noise", photograph, noisy.astype(np.float32))
        np.testing.assert_equal(labels[at], np.float32(expected))
    faults.label(labels, "dark", photograph, photograph * np.float32(0.2))
    assert labels[verdict.FAULTS.index("dark")] == 1
    assert np.isnan(labels[at]), "what is dark may be noisy"


def test_what_is_fitted_is_what_the_command_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(faults, "STEPS", 30)
    rng = np.random.default_rng(0)
    labels = np.zeros((90, len(verdict.FAULTS)), np.float32)
    for row in range(0, 90, 3):
        labels[row, (row // 3) % len(verdict.FAULTS)] = 1
    rows = rng.normal(0, 1, (90, len(measures.names()))).astype(np.float32)
    np.savez(tmp_path / "rows.npz", rows=rows, labels=labels, groups=np.arange(90) % 9)
    faults.main(f"fit {tmp_path}/rows.npz -o {tmp_path}/faults.json".split())
    assert "60 good ones" in capsys.readouterr().out
    network = verdict.from_json((tmp_path / "faults.json").read_text())
    chances = network.chances(dict(zip(measures.names(), rows[0], strict=True)))
    assert set(chances) == set(verdict.FAULTS)
    assert all(0 < chance < 1 for chance in chances.values())
    assert len(network.measures) == faults.KEPT


def test_the_table_counts_what_is_said(good_ones, tmp_path, capsys):
    names = tmp_path / "held_out.txt"
    asked = f"table --photos {good_ones} --names {names} --long-side 128"
    faults.main([*asked.split(), "--folder", f"all={good_ones}"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "good, kept out", *(f"{kind}, made of them" for kind in verdict.FAULTS), "all"
    ]  # fmt: skip
    for line in lines[2:]:
        total, *counts = (int(cell or 0) for cell in map(str.strip, line.split("|")[2:-1]))
        assert sum(counts) == total
