"""Several tasks on a picture in memory give what separate runs through files of 16 bits give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from restorecli.engine.chain import prepare_chain
from restorecli.engine.settings import EngineSettings
from restorecli.errors import DeviceError, UsageError, WeightsError
from restorecli.images import decode_photo
from restorecli.networks import NETWORKS
from restorecli.runs.manifest import MANIFEST, read_manifest
from restorecli.weights import choose_model
from tests.conftest import TINY, pixels_of, save_weights

TASKS = ("derain", "denoise")


@pytest.fixture
def weights(tmp_path):
    """A network for each task, of which each changes a picture in its own way."""
    paths = {}
    for seed, task in enumerate(TASKS):
        torch.manual_seed(seed)
        network = NETWORKS["hint"](**TINY)
        paths[task] = save_weights(tmp_path / f"{task}.safetensors", network, "hint", TINY)
    return paths


@pytest.fixture
def chain(cli, weights):
    """`restore run … --task derain,denoise` with small networks."""
    named = ",".join(f"{task}={path}" for task, path in weights.items())
    return lambda *arguments: cli(
        "run", *arguments, "--task", ",".join(TASKS), "--weights", named, "--json"
    )


@pytest.fixture
def one_by_one(cli, weights, tmp_path):
    """The same by `restore derain` into a file of 16 bits, and `restore denoise` of that."""

    def run(source, out, *options, bits, between=".png"):
        options = (*options, "--overwrite")
        middle = tmp_path / f"middle{between}"
        wide = () if bits == "source" else ("--bits", 16)
        first = cli("derain", source, "-o", middle, *wide, "--weights", weights["derain"], *options)
        assert first.exit_code == 0, first.stderr
        last = cli(
            "denoise", middle, "-o", out, "--bits", bits, "--weights", weights["denoise"], *options
        )
        assert last.exit_code == 0, last.stderr

    return run


def clear(planes):
    """A picture with a hole and a soft edge in it."""
    alpha = np.full(planes.shape[:2], 255, np.uint8)
    alpha[4:9, 4:9], alpha[9] = 0, 128
    return np.dstack([planes, alpha])


KINDS = {
    "RGB": lambda planes: planes,
    "gray": lambda planes: planes[..., 0],
    "gray stored as RGB": lambda planes: np.repeat(planes[..., :1], 3, axis=2),
    "transparent": clear,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_chain_gives_the_bytes_of_two_runs_through_files_of_16_bits(
    chain, one_by_one, picture, tmp_path, kind
):
    source, one, two = (tmp_path / name for name in ("a.png", "one.png", "two.png"))
    Image.fromarray(KINDS[kind](picture(21, 34))).save(source, dpi=(72, 72))
    outcome = chain(source, "-o", one)
    assert outcome.exit_code == 0, outcome.stderr
    one_by_one(source, two, bits=8)
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes() != source.read_bytes()
    through_8_bits = tmp_path / "eight.png"
    one_by_one(source, through_8_bits, bits="source")
    assert through_8_bits.read_bytes() != one.read_bytes()  # which rounds once more


@pytest.mark.parametrize(("dtype", "most"), [(np.uint16, 65_535), (np.float32, 1)])
def test_so_it_does_with_16_bits_and_floating_point_numbers(
    chain, one_by_one, tmp_path, dtype, most
):
    values = (np.random.default_rng(0).random((24, 16, 3)) * most).astype(dtype)
    source, one, two = (tmp_path / name for name in ("a.tif", "one.tif", "two.tif"))
    tifffile.imwrite(source, values, photometric="rgb")
    assert chain(source, "-o", one).exit_code == 0
    one_by_one(source, two, bits="source", between=".tif")
    assert one.read_bytes() == two.read_bytes()


def test_strength_and_ensemble_are_those_of_each_step(chain, one_by_one, photo_file, tmp_path):
    source, one, two = photo_file("a.png", 12, 16), tmp_path / "one.png", tmp_path / "two.png"
    options = ("--strength", "0.5", "--ensemble")
    outcome = chain(source, "-o", one, *options)
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.lines[-1]["settings"]["options"]["strength"] == "derain 0.5, denoise 0.5"
    one_by_one(source, two, *options, bits=8)
    assert one.read_bytes() == two.read_bytes()


def test_a_step_may_have_its_own_strength(chain, cli, weights, photo_file, tmp_path):
    source, one, two = photo_file("a.png", 12, 16), tmp_path / "one.png", tmp_path / "two.png"
    assert chain(source, "-o", one, "--strength", "derain=0").exit_code == 0
    assert cli("denoise", source, "-o", two, "--weights", weights["denoise"]).exit_code == 0
    np.testing.assert_array_equal(pixels_of(one), pixels_of(two))


def test_a_folder_has_one_entry_for_each_picture_and_goes_on(chain, cli, photo_file, tmp_path):
    for name in ("in/a.png", "in/deep/b.jpg"):
        photo_file(name, 16, 24)
    first = chain(tmp_path / "in", "-r")
    assert first.exit_code == 0, first.stderr
    out = tmp_path / "in.derain-denoise"
    assert sorted(r["output"] for r in read_manifest(out)) == ["a.png", "deep/b.jpg"]
    settings = first.lines[-1]["settings"]
    assert settings["task"] == "derain-denoise"
    assert settings["model_id"] == "derain.safetensors+denoise.safetensors"
    again = chain(tmp_path / "in", "-r", "--resume")
    assert again.lines[-1]["counts"] == {"ok": 0, "failed": 0, "skipped": 2}
    other = chain(tmp_path / "in", "-r", "--resume", "--strength", "denoise=0.5")
    assert other.lines[-1]["counts"]["ok"] == 2


def test_one_task_is_the_command_of_that_task(cli, weights, photo_file, tmp_path):
    photo_file("in/a.png", 16, 24)
    named = ("--weights", weights["derain"], "-o", tmp_path / "out")
    assert cli("run", tmp_path / "in", "--task", "derain", *named).exit_code == 0
    again = cli("derain", tmp_path / "in", *named, "--resume", "--json")
    assert again.lines[0]["status"] == "skipped"  # the same entry of the manifest


def test_scores_after_each_step_are_those_of_the_files_in_between(
    chain, one_by_one, cli, photo_file, tmp_path
):
    source, clean = photo_file("in/a.png", 24, 32), photo_file("ref/a.png", 24, 32)
    Image.fromarray(np.roll(pixels_of(clean), 1, 0)).save(clean)
    report = tmp_path / "report.csv"
    outcome = chain(
        source.parent, "-o", tmp_path / "out", "--ref", clean.parent, "--report", report
    )
    assert outcome.exit_code == 0, outcome.stderr
    row, last = outcome.lines
    one_by_one(source, tmp_path / "two.png", bits=8)
    middle = cli("metrics", tmp_path / "middle.png", "--ref", clean, "--json", "--protocol", "rgb")
    assert row["steps"] == [{"task": "derain", "scores": middle.lines[0]["scores_after"]}]
    assert [one["of"] for one in last["summary"] if one["score"] == "psnr_rgb"] == [
        "before", "after derain", "after",
    ]  # fmt: skip
    assert "psnr_rgb_after derain" in report.read_text()
    assert " (derain) → " in outcome.stderr


def test_one_broken_picture_and_one_without_reference_stop_nothing(chain, photo_file, tmp_path):
    photo_file("in/a.png", 16, 16)
    photo_file("in/b.png", 16, 16)
    photo_file("ref/b.png", 16, 16)
    (tmp_path / "in" / "c.png").write_bytes(b"no picture")
    outcome = chain(tmp_path / "in", "-o", tmp_path / "out", "--ref", tmp_path / "ref",
                    "--allow-missing")  # fmt: skip
    assert outcome.exit_code == 1
    assert outcome.lines[-1]["counts"] == {"ok": 2, "failed": 1, "skipped": 0}
    assert [len(row["steps"]) for row in outcome.lines[:-1]] == [0, 1, 0]


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--task", "derain,"), 2, "'' is no task"),
        (("--task", "derain,denoice"), 2, "Did you mean denoise?"),
        (("--task", "derain,derain"), 2, "names derain twice"),
        (("--task", "derain,denoise", "--model", "hint-derain-packed"), 2, "--model derain=MODEL"),
        (("--task", "derain,denoise", "--model", "dehaze=hint-dehaze-packed"), 2, "of which"),
        (("--task", "derain,denoise", "--model", "derain=x,derain=y"), 2, "names derain twice"),
        (("--task", "derain,denoise", "--strength", "0.5,0.6"), 2, "of which of these tasks"),
        (("--task", "derain,denoise", "--strength", "derain=2"), 2, "'2' is not a number"),
        (("--task", "derain,denoise", "--protocol", "published"), 2, "not as a chain"),
        (("--task", "derain,denoise", "--model", "denoise=hint-derain-packed"), 4, "is for derain"),
        (("--task", "derain,denoise", "--weights", "denoise=/none.pth"), 4, "no weights file"),
    ],
)
def test_what_a_chain_cannot_be_is_refused_in_one_sentence(
    cli, photo_file, options, code, sentence
):
    source = photo_file("a.png")
    refused = cli("run", source, *options)
    assert refused.exit_code == code in {UsageError.exit_code, WeightsError.exit_code}
    assert sentence in refused.stderr
    assert list(source.parent.iterdir()) == [source]


def test_the_memory_of_every_step_is_planned(weights, picture, tmp_path):
    settings = [
        EngineSettings(model=choose_model(task, weights=weights[task]), device="cpu")
        for task in TASKS
    ]
    chain = prepare_chain(settings)
    plan = chain.plan((400, 300), np.uint8, np.uint8)
    first, last = plan.steps
    sixteen = 2 * 3 * 400 * 300  # bytes that the picture between them has
    assert first.needed_bytes - last.needed_bytes == sixteen // 2 - sixteen
    assert plan.predicted_bytes == first.held_bytes + last.needed_bytes
    small = chain.limited(lambda engine: 10**6)
    with pytest.raises(DeviceError, match="do not fit"):
        small.plan((400, 300), np.uint8, np.uint8)


def test_a_step_in_tiles_is_told_of_the_whole(weights, photo_file):
    chain = prepare_chain(
        [
            EngineSettings(model=choose_model("derain", weights=weights["derain"]), device="cpu"),
            EngineSettings(
                model=choose_model("denoise", weights=weights["denoise"]),
                device="cpu", tile=24, overlap_px=8,
            ),
        ]
    )  # fmt: skip
    photo = decode_photo(photo_file("a.png", 40, 40).read_bytes(), "a.png")
    shares, steps = [], []
    _, plan = chain.restore(
        photo, shares.append, on_step=lambda number, after: steps.append((number, after.bits))
    )
    assert (plan.exact, plan.tile_px) == (False, 24)
    assert sum(shares) == pytest.approx(1)
    assert steps == [(0, 16)]


def test_the_manifest_says_what_each_step_was(chain, photo_file, tmp_path):
    photo_file("in/a.png", 16, 16)
    assert chain(tmp_path / "in", "-o", tmp_path / "out", "--strength", "denoise=.5").exit_code == 0
    (line,) = (tmp_path / "out" / MANIFEST).read_text().splitlines()
    record = json.loads(line)
    assert record["options"]["task"] == "derain-denoise"
    assert record["options"]["strength"] == "denoise 0.5"
    assert len(record["model_sha256"].split("+")) == 2
    assert Path(record["output"]) == Path("a.png")
