"""``restore degrade``: pairs that are the same every time, and nothing lost on the way."""

import json
import typing

import numpy as np
import pytest
import tifffile
from PIL import Image

from restorecli.commands.degrade import Kind
from restorecli.degradations.kinds import KINDS
from tests.conftest import pixels_of


@pytest.fixture
def photos(tmp_path, photo_file):
    photo_file("photos/one.png")
    photo_file("photos/two.jpg", height=40, width=56)
    return tmp_path / "photos"


def bytes_below(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_command_knows_every_kind():
    assert set(typing.get_args(Kind)) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_lie_in_two_folders_and_the_same_seed_gives_the_same_bytes(
    kind, cli, photos, tmp_path
):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        done = cli("degrade", kind, photos, "-o", tmp_path / name, "--pairs", "--seed", seed)
        assert done.exit_code == 0, done.stderr
    one, again, other = (bytes_below(tmp_path / name) for name in "abc")
    assert set(one) == {
        "input/one.png", "input/two.png", "target/one.png", "target/two.png",
    }  # fmt: skip
    assert one == again
    assert one["target/two.png"] == other["target/two.png"]
    assert one["input/two.png"] != other["input/two.png"]
    target = pixels_of(tmp_path / "a" / "target" / "one.png")
    np.testing.assert_array_equal(target, pixels_of(photos / "one.png"))


def test_a_picture_is_spoiled_alike_whatever_it_is_called_and_goes_with(cli, photos, tmp_path):
    (photos / "zero.png").write_bytes((photos / "one.png").read_bytes())
    assert cli("degrade", "rain", photos, "-o", tmp_path / "all").exit_code == 0
    assert cli("degrade", "rain", photos / "one.png", "-o", tmp_path / "1.png").exit_code == 0
    alone = pixels_of(tmp_path / "1.png")
    for name in ("one", "zero"):
        np.testing.assert_array_equal(pixels_of(tmp_path / "all" / f"{name}.png"), alone)
    assert not np.array_equal(alone, pixels_of(photos / "one.png"))


def test_pairs_can_be_scored_at_once_and_severity_lowers_the_score(cli, photos, tmp_path):
    scores = []
    for severity in ("0.3", "1", "2"):
        out = tmp_path / severity
        cli("degrade", "noise", photos, "-o", out, "--pairs", "--severity", severity, "-q")
        scored = cli("metrics", out / "input", "--ref", out / "target", "--json")
        assert scored.exit_code == 0, scored.stderr
        scores.append(scored.lines[0]["scores_after"]["psnr_rgb"])
    assert scores == sorted(scores, reverse=True)


def test_gray_sixteen_bits_and_transparency_stay(cli, tmp_path):
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (24, 32, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    Image.fromarray(deep[..., 0].astype(np.uint8)).save(tmp_path / "gray.png")
    clear = np.dstack([(deep // 257).astype(np.uint8), np.full((24, 32), 90, np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    out = tmp_path / "out"
    names = [tmp_path / name for name in ("deep.tif", "gray.png", "clear.png")]
    assert cli("degrade", "haze", *names, "-o", out, "--pairs").exit_code == 0
    import cv2

    kept = cv2.imread(str(out / "target" / "deep.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(kept[..., ::-1], deep)
    assert cv2.imread(str(out / "input" / "deep.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    assert pixels_of(out / "input" / "gray.png").shape == (24, 32)
    spoiled = pixels_of(out / "input" / "clear.png")
    np.testing.assert_array_equal(spoiled[..., 3], 90)
    assert not np.array_equal(spoiled[..., :3], clear[..., :3])


def test_nothing_is_overwritten_unasked(cli, photos, tmp_path):
    out = tmp_path / "out"
    (out / "target").mkdir(parents=True)
    mine = out / "target" / "two.png"
    mine.write_bytes(b"mine")
    refused = cli("degrade", "snow", photos, "-o", out, "--pairs")
    assert refused.exit_code == 2
    assert "would be overwritten" in refused.stderr
    assert bytes_below(out) == {"target/two.png": b"mine"}  # refused before anything is written
    replaced = cli("degrade", "snow", photos, "-o", out, "--pairs", "--overwrite")
    assert replaced.exit_code == 0
    assert mine.read_bytes() != b"mine"
    onto_itself = cli("degrade", "snow", photos / "one.png", "-o", photos)
    assert onto_itself.exit_code == 2


def test_one_broken_picture_is_told_and_the_others_are_made(cli, photos, tmp_path):
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    done = cli("degrade", "dark", photos, "-o", tmp_path / "out", "--json", "-q")
    assert done.exit_code == 1
    assert {line["status"] for line in done.lines} == {"ok", "failed"}
    assert len(list((tmp_path / "out").iterdir())) == 2
    alone = cli("degrade", "dark", photos / "broken.png", "-o", tmp_path / "other")
    assert alone.exit_code == 3
    assert "broken.png" in alone.stderr
    assert cli("degrade", "dark", tmp_path / "none.png", "-o", tmp_path / "x").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hail", "photos", "-o", "out"], "hail"),
        (["rain", "photos", "-o", "out", "--severity", "9"], "--severity"),
        (["rain", "photos", "-o", "out", "--severity", "nan"], "--severity"),
        (["rain", "photos"], "--output"),
        (["rain", "-", "-o", "out"], "- is neither"),
        (["rain", "photos", "-o", "-"], "- is neither"),
        (["rain", "photos", "-o", "out.png", "--pairs"], "--pairs"),
    ],
)
def test_impossible_requests_end_with_one_sentence(
    arguments, said, cli, photos, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    refused = cli("degrade", *arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert not (tmp_path / "out").exists()


def test_a_line_of_json_names_what_was_written(cli, photos, tmp_path):
    done = cli("degrade", "rain", photos / "one.png", "-o", tmp_path / "out", "--pairs", "--json")
    line = json.loads(done.stdout)
    assert line["status"] == "ok"
    assert line["written"] == [
        str(tmp_path / "out" / part / "one.png") for part in ("input", "target")
    ]
