"""A job in, a report out: one rule for pictures, one name for a network, one call for engines."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

import restorecli
from restorecli.engine.settings import EngineSettings
from restorecli.errors import InputError, UsageError, WeightsError
from restorecli.limits import AUTO
from restorecli.runs.items import Item
from restorecli.runs.job import Pool, make_job
from restorecli.runs.listener import Silent
from restorecli.runs.manifest import MANIFEST
from restorecli.runs.naming import Naming
from restorecli.runs.run import run
from restorecli.weights import CheckpointFile, ChosenModel, choice, choose_model


@pytest.fixture
def derain(cli, random_weights, tmp_path):
    """`restore derain IN -o OUT --ref REF --json` with a small network."""
    return lambda *options: cli(
        "derain", tmp_path / "in", "-o", tmp_path / "out", "--weights", random_weights,
        "--ref", tmp_path / "ref", "--json", *options,
    )  # fmt: skip


def test_a_reference_is_asked_only_of_pictures_that_are_restored(derain, photo_file):
    for name in ("in/a.png", "in/sub/b.png", "ref/a.png"):
        photo_file(name)
    outcome = derain()
    assert outcome.exit_code == 0, outcome.stderr
    assert [Path(row["name"]).name for row in outcome.lines[:-1]] == ["a.png"]
    assert outcome.lines[0]["scores_after"]
    assert derain("-r", "--overwrite").exit_code == InputError.exit_code  # now b.png is, too


def test_an_earlier_result_beside_its_input_needs_no_reference(derain, photo_file):
    for name in ("in/a.png", "in/a.derain.png", "ref/a.png"):
        photo_file(name)
    outcome = derain()
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.lines[-1]["counts"] == {"ok": 1, "failed": 0, "skipped": 0}


def test_what_is_restored_is_scored_also_as_floating_point_numbers(cli, derain, tmp_path):
    values = np.random.default_rng(0).random((40, 48, 3), np.float32)
    for folder in ("in", "ref"):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", values, photometric="rgb")
    outcome = derain()
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.lines[0]["scores_before"]["psnr_y"] == "Infinity"
    assert outcome.lines[0]["scores_after"]["psnr_y"] > 0
    again = cli("metrics", tmp_path / "out", "--ref", tmp_path / "ref", "--json")
    assert again.exit_code == 0, again.stderr


def test_what_has_no_reference_is_named_in_the_report(derain, photo_file):
    for name in ("in/a.png", "in/b.png", "ref/a.png"):
        photo_file(name)
    outcome = derain("--allow-missing")
    assert outcome.exit_code == 0
    assert outcome.lines[-1]["notes"] == ["No reference for b.png; left out."]


def test_broken_pictures_are_failures_of_the_run_and_need_no_reference(
    derain, photo_file, tmp_path
):
    for name in ("in/a.png", "ref/a.png"):
        photo_file(name)
    (tmp_path / "in" / "notes.png").write_text("<html>")
    outcome = derain()
    assert outcome.exit_code == 1
    assert outcome.lines[-1]["counts"] == {"ok": 1, "failed": 1, "skipped": 0}


def job_of(weights, folder, **options):
    settings = EngineSettings(model=choose_model("derain", weights=weights), device="cpu")
    naming = Naming(task="derain", output=str(folder / "out"))
    return make_job([folder / "in"], naming, settings, **options)


def test_a_network_has_one_name_whichever_engine_runs_it(random_weights, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")  # no work: no cluster is started
    here = job_of(random_weights, tmp_path)
    on_ray = replace(here, pool=Pool())
    reports = [run(job, Silent()) for job in (here, on_ray)]
    assert {report.settings.model_id for report in reports} == {random_weights.name}
    assert {report.settings.model_sha256 for report in reports} == {here.engine.model.sha256}
    assert reports[0].rows == reports[1].rows


def test_a_file_of_weights_is_read_and_hashed_once(cli, random_weights, photo_file, monkeypatch):
    path, reads = photo_file("a.png"), []
    real = choice.read_regular

    def counted(file, **bounds):
        reads.append(file)
        return real(file, **bounds)

    monkeypatch.setattr(choice, "read_regular", counted)
    assert cli("derain", path, "--weights", random_weights).exit_code == 0
    assert reads == [random_weights]


def test_a_file_that_changes_on_its_way_to_another_process_is_refused(random_weights):
    file = CheckpointFile(random_weights)
    copy = pickle.loads(pickle.dumps(file))
    assert copy.take() == file.take() == random_weights.read_bytes()
    random_weights.write_bytes(random_weights.read_bytes() + b" ")
    with pytest.raises(WeightsError, match="not the same file any more"):
        copy.take()


def test_a_job_is_a_value_that_travels(random_weights, photo_file, tmp_path):
    photo_file("in/a.png")
    job = job_of(random_weights, tmp_path)
    copy = pickle.loads(pickle.dumps(job))
    assert copy.fingerprint == job.fingerprint
    assert copy.selection == job.selection
    with pytest.raises(FrozenInstanceError):
        job.pool = Pool()


def test_the_manifest_keeps_its_words(cli, random_weights, photo_file, tmp_path):
    photo_file("in/a.png")
    arguments = ("derain", tmp_path / "in", "-o", tmp_path / "out", "--weights", random_weights)
    assert cli(*arguments, "--max-memory", "8GB").exit_code == 0
    record = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert record["options"] == {
        "task": "derain", "precision": "auto", "tile": "auto", "overlap": "64",
        "max_memory": "8000000000", "bits": "source", "metadata": "keep",
    }  # fmt: skip
    again = cli(*arguments, "--max-memory", "8GB", "--resume", "--json")
    assert again.lines[-1]["counts"] == {"ok": 0, "failed": 0, "skipped": 1}


@pytest.mark.parametrize(("tile", "text"), [(AUTO, "auto"), (None, "none"), (256, "256")])
def test_a_fingerprint_says_the_tile_as_the_option_does(random_weights, tmp_path, tile, text):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    job = job_of(random_weights, tmp_path)
    job = job.with_engines(lambda engine: replace(engine, tile=tile))
    assert job.fingerprint.options["tile"] == text


def test_python_may_bound_the_memory(random_weights):
    engine = restorecli.load(random_weights, device="cpu", max_bytes=3 * 10**9, overlap_px=16)
    assert (engine.max_bytes, engine.overlap_px) == (3 * 10**9, 16)


def test_a_network_of_another_task_is_refused_before_anything_is_read():
    with pytest.raises(WeightsError, match="is for dehaze, not for derain"):
        choose_model("derain", "hint-dehaze-packed")


def test_an_item_has_one_fate(tmp_path):
    item = Item(source=tmp_path / "a.png", target=tmp_path / "b.png")
    assert (item.error, item.finished, item.replaces, item.in_place) == (None, False, False, False)
    error = InputError("broken")
    assert replace(item, fate=error).error is error
    assert replace(item, fate="keep").finished
    assert replace(item, fate="replace").replaces


def test_standard_input_cannot_be_scored(cli, photo_file, tmp_path):
    photo_file("ref/a.png")
    refused = cli("derain", "-", "-o", tmp_path / "o.png", "--ref", tmp_path / "ref")
    assert refused.exit_code == UsageError.exit_code
    assert "standard input" in refused.stderr


def test_a_model_of_the_registry_or_a_file_is_told_by_name(random_weights):
    of_file = ChosenModel(file=CheckpointFile(random_weights))
    assert (of_file.id, of_file.stem) == (random_weights.name, random_weights.stem)
    chosen = choose_model("derain")
    assert chosen.id == chosen.stem == "hint-derain-packed"
