"""One detail before and after, side by side: the pixels of the whole result, or nearly so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import restorecli
from restorecli.engine import box as boxes
from restorecli.engine.box import GRID_PX, WINDOW_PIXELS, Box, window
from restorecli.engine.detail import GAP_PX
from restorecli.networks import NETWORKS
from tests.conftest import pixels_of, save_weights

EXAMPLE = Path(__file__).parents[1] / "examples" / "chelsea-rain.png"


@pytest.fixture
def preview(cli, random_weights):
    return lambda *arguments: cli(
        "derain", *arguments, "--preview", "--weights", random_weights, "--json"
    )


def halves(path):
    pixels = pixels_of(path)
    width = (pixels.shape[1] - GAP_PX) // 2
    assert (pixels[:, width : width + GAP_PX] == 255).all()
    return pixels[:, :width], pixels[:, width + GAP_PX :]


def whole_result(cli, path, weights, tmp_path, *options):
    out = tmp_path / "whole.png"
    assert cli("derain", path, "-o", out, "--weights", weights, *options).exit_code == 0
    return pixels_of(out)


@pytest.mark.parametrize("options", [(), ("--strength", "0.5"), ("--ensemble",)])
def test_of_a_small_picture_it_has_the_very_pixels_of_the_result(
    cli, preview, photo_file, random_weights, tmp_path, options
):
    path = photo_file("a.png", 40, 56)
    outcome = preview(path, "--crop", "24x16+20+8", *options)
    assert outcome.exit_code == 0, outcome.stderr
    row = outcome.lines[0]
    assert row["output"] == str(path.with_name("a.derain.preview.png"))
    assert "24x16+20+8, before | after; the very pixels of the whole result" in row["notes"]
    assert row["exact"] is True
    before, after = halves(row["output"])
    np.testing.assert_array_equal(before, pixels_of(path)[8:24, 20:44])
    whole = whole_result(cli, path, random_weights, tmp_path, *options)
    np.testing.assert_array_equal(after, whole[8:24, 20:44])
    assert not np.array_equal(before, after)


def test_of_a_large_picture_its_surroundings_are_restored(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(boxes, "WINDOW_PIXELS", 96 * 96)
    path = tmp_path / "a.png"
    Image.fromarray(pixels_of(EXAMPLE)[:160, :224]).save(path)
    outcome = cli("derain", path, "--preview", "--crop", "32x32+100+60", "--json")
    assert outcome.exit_code == 0, outcome.stderr
    row = outcome.lines[0]
    assert row["exact"] is False
    assert "restored with its surroundings (96×96 of 224×160 pixels)" in row["notes"][0]
    assert row["notes"][1].startswith("the whole picture would take about ")
    assert "a.derain.preview.png" in outcome.stderr
    assert ", a detail" in outcome.stderr
    _, after = halves(row["output"])
    out = tmp_path / "whole.png"
    assert cli("derain", path, "-o", out).exit_code == 0
    whole = pixels_of(out)[60:92, 100:132].astype(int)
    before = pixels_of(path)[60:92, 100:132].astype(int)
    assert 0 < np.abs(after - whole).mean() < np.abs(before - whole).mean() / 4


def without_attention(path, **more):
    """A network that looks at nothing but near pixels: a window shows just what the whole does."""
    options = {"dim": 8, "num_blocks": [0, 0, 0, 0], "num_refinement_blocks": 0, **more}
    torch.manual_seed(0)
    return save_weights(path, NETWORKS["hint"](**options), "hint", options)


@pytest.fixture
def lit(tmp_path):
    """A network behind a tone curve that is taken from the whole picture."""
    return without_attention(tmp_path / "lit.safetensors", front="exposure")


def test_the_tone_is_that_of_the_whole_picture(lit, picture, monkeypatch):
    monkeypatch.setattr(boxes, "WINDOW_PIXELS", 64 * 64)
    dark = picture(128, 160) // 8
    dark[:, 96:] *= 4  # brighter where the detail is not
    engine = restorecli.load(lit, device="cpu")
    place = window(Box(16, 16, 24, 24), dark.shape[:2])
    assert place.width < dark.shape[1]
    whole, _ = engine.restore(dark)
    alone, _ = engine.restore(np.ascontiguousarray(place.of(dark)))
    seeing, _ = replace(engine, whole=dark).restore(np.ascontiguousarray(place.of(dark)))
    inner = (slice(16, 40), slice(16, 40))
    np.testing.assert_array_equal(seeing[inner], place.of(whole)[inner])
    assert not np.array_equal(alone[inner], place.of(whole)[inner])


def test_gray_corners_of_coloured_pictures_are_restored_as_colours(
    cli, picture, tmp_path, monkeypatch
):
    monkeypatch.setattr(boxes, "WINDOW_PIXELS", 64 * 64)
    planes = picture(128, 160)
    planes[:, :96] = planes[:, :96, :1]
    path, out = tmp_path / "a.png", tmp_path / "whole.png"
    Image.fromarray(planes).save(path)
    run = ("derain", path, "--weights", without_attention(tmp_path / "near.safetensors"))
    assert cli(*run, "--preview", "--crop", "24x24+16+16").exit_code == 0
    assert cli(*run, "-o", out).exit_code == 0
    _, after = halves(path.with_name("a.derain.preview.png"))
    np.testing.assert_array_equal(after, pixels_of(out)[16:40, 16:40])
    assert (after[..., 0] != after[..., 1]).any()


def test_a_chain_and_transparency_can_be_previewed(cli, picture, random_weights, tmp_path):
    planes = np.dstack([picture(32, 32), np.full((32, 32), 255, np.uint8)])
    planes[4:12, 4:12, 3] = 0
    path = tmp_path / "a.png"
    Image.fromarray(planes).save(path)
    each = f"derain={random_weights},denoise={random_weights}"
    run = ("run", path, "--task", "derain,denoise", "--weights", each)
    outcome = cli(*run, "--preview", "--crop", "32x32+0+0")
    assert outcome.exit_code == 0, outcome.stderr
    out = tmp_path / "whole.png"
    assert cli(*run, "-o", out).exit_code == 0
    shown = pixels_of(tmp_path / "a.derain-denoise.preview.png")
    np.testing.assert_array_equal(shown[:, :32], planes)
    np.testing.assert_array_equal(shown[:, 32 + GAP_PX :], pixels_of(out))


def test_previews_of_a_folder_lie_beside_it_and_are_taken_for_no_pictures(
    cli, preview, photo_file, random_weights, tmp_path
):
    photo = photo_file("in/a.jpg", 32, 40)
    photo_file("in/b.png", 8, 8)
    outcome = preview(tmp_path / "in")
    assert outcome.exit_code == 0, outcome.stderr
    out = tmp_path / "in.derain.preview"
    assert sorted(p.name for p in out.glob("*.png")) == ["a.png", "b.png"]
    assert preview(tmp_path / "in", "--resume").lines[0]["status"] == "skipped"
    other = preview(tmp_path / "in", "--resume", "--crop", "8x8+0+0")
    assert other.lines[0]["status"] == "ok"
    assert preview(photo).exit_code == 0
    assert photo.with_name("a.derain.preview.png").exists()
    run = cli("derain", tmp_path / "in", "-n", "--json", "--weights", random_weights)
    assert [line["input"][-5:] for line in run.lines] == ["a.jpg", "b.png"]


def test_nothing_of_where_and_how_it_was_taken_is_in_a_preview(preview, picture, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    path = tmp_path / "a.jpg"
    Image.fromarray(picture(32, 32)).save(path, exif=exif, icc_profile=None)
    assert preview(path).exit_code == 0
    assert b"a maker" not in path.with_name("a.derain.preview.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--preview", "--crop", "40x8+0+0"), 3, "has 32×24 pixels"),
        (("--preview", "--crop", "8x8+0+17"), 3, "is not inside of"),
        (("--preview", "--crop", "8x8"), 2, "'8x8' is no part of a picture"),
        (("--preview", "--crop", "0x8+0+0"), 2, "is no part of a picture"),
        (("--crop", "8x8+0+0"), 2, "--crop chooses what --preview shows"),
        (("--preview", "--in-place"), 2, "replaces nothing"),
        (("--preview", "--ref", "."), 2, "--ref scores whole results"),
    ],
)
def test_impossible_previews_are_refused_in_one_sentence(cli, photo_file, options, code, sentence):
    path = photo_file("a.png", 24, 32)
    refused = cli("derain", path, *options)
    assert refused.exit_code == code
    assert sentence in refused.stderr
    assert list(path.parent.iterdir()) == [path]


@given(
    size=st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
    share=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_a_window_holds_its_detail_on_the_grid_and_not_much_more_than_allowed(size, share):
    height, width = size
    box_width, box_height = max(1, int(share[0] * width)), max(1, int(share[1] * height))
    box = Box(
        int(share[2] * (width - box_width)), int(share[3] * (height - box_height)),
        box_width, box_height,
    )  # fmt: skip
    found = window(box, size)
    assert found.left % GRID_PX == found.top % GRID_PX == 0
    assert found.left <= box.left
    assert found.top <= box.top
    assert box.left + box.width <= found.left + found.width <= width
    assert box.top + box.height <= found.top + found.height <= height
    most = max(WINDOW_PIXELS, box.width * box.height, 1024 * max(box.width, box.height))
    assert found.width * found.height <= most + GRID_PX * (found.width + found.height)
    if height * width <= WINDOW_PIXELS:
        assert found == Box(0, 0, width, height)
