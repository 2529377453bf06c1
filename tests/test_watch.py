"""Pictures are restored as they arrive: when they are complete, once, and whatever ends it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restorecli.engine.chain import prepare_chain
from restorecli.engine.settings import EngineSettings
from restorecli.errors import InputError, UsageError
from restorecli.runs.items import Selection
from restorecli.runs.job import Job, Step
from restorecli.runs.listener import Silent
from restorecli.runs.manifest import read_manifest
from restorecli.runs.naming import Naming
from restorecli.runs.watch import LOOK_S, PATIENCE_S, Watch
from restorecli.weights import choose_model
from tests.conftest import pixels_of

TIMEOUT_S = 60


class Heard(Silent):
    def __init__(self):
        self.rows = []

    def finish(self, row):
        self.rows.append(row)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def watched(identity_weights, tmp_path):
    """A watched folder with a network that changes nothing, and a clock that we turn."""
    (tmp_path / "in").mkdir()
    settings = EngineSettings(model=choose_model("derain", weights=identity_weights), device="cpu")
    chain = prepare_chain([settings])

    def make(**options):
        return Watch(
            chain=chain,
            job=Job(steps=(Step(task="derain", engine=settings),), selection=Selection(items=())),
            naming=Naming(task="derain", output=str(tmp_path / "out")),
            folder=tmp_path / "in",
            listener=Heard(),
            clock=Clock(),
            **options,
        )

    return make


def results(folder):
    found = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    return sorted(p.relative_to(folder).as_posix() for p in found)


def passes(watch, seconds, *, told=False):
    watch.clock.now += seconds
    watch.look(told=told)


def test_a_file_is_begun_when_it_has_not_changed_for_a_while(watched, photo_file, tmp_path):
    watch = watched()
    watch.look(told=False)
    data = photo_file("whole.png", 24, 24).read_bytes()
    arriving = tmp_path / "in" / "a.png"
    for end in (100, 500, len(data)):  # as a slow copy writes it
        arriving.write_bytes(data[:end])
        passes(watch, 0.9, told=True)
        assert not watch.listener.rows
    passes(watch, 0.9)
    assert not watch.listener.rows
    passes(watch, 0.2)
    assert [row.status for row in watch.listener.rows] == ["ok"]
    assert (tmp_path / "out" / "a.png").read_bytes() is not None
    np.testing.assert_array_equal(pixels_of(tmp_path / "out" / "a.png"), pixels_of(arriving))
    passes(watch, 5, told=True)
    assert len(watch.listener.rows) == 1  # once


def test_a_file_that_pauses_on_its_way_is_waited_for_and_a_broken_one_told_once(
    watched, photo_file, tmp_path
):
    watch = watched()
    watch.look(told=False)
    data = photo_file("whole.png", 24, 24).read_bytes()
    slow, broken = tmp_path / "in" / "slow.png", tmp_path / "in" / "broken.png"
    slow.write_bytes(data[:-60])
    broken.write_bytes(data[:-60])
    passes(watch, 0, told=True)
    passes(watch, 2)
    assert not watch.listener.rows  # neither can be read, and both may still be on their way
    slow.write_bytes(data)
    passes(watch, 0, told=True)
    passes(watch, 2)
    assert [(Path(row.name).name, row.status) for row in watch.listener.rows] == [
        ("slow.png", "ok")
    ]
    passes(watch, PATIENCE_S)
    assert [row.status for row in watch.listener.rows] == ["ok", "failed"]
    passes(watch, PATIENCE_S, told=True)
    assert watch.counts == {"ok": 1, "failed": 1}
    broken.write_bytes(data)
    passes(watch, 0, told=True)
    passes(watch, 2)
    assert watch.counts == {"ok": 2, "failed": 1}


def test_what_is_there_at_first_is_begun_at_once_and_a_new_start_goes_on(
    watched, photo_file, tmp_path
):
    for name in ("in/a.png", "in/deep/b.jpg"):
        os.utime(photo_file(name, 16, 16), (1e9, 1e9))
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    os.utime(tmp_path / "in" / "notes.txt", (1e9, 1e9))
    watch = watched(recursive=True)
    watch.look(told=False)
    assert results(tmp_path / "out") == ["a.png", "deep/b.jpg"]
    assert not watch.waiting
    again = watched(recursive=True)
    again.look(told=False)
    assert again.counts == {"skipped": 2}
    assert not again.listener.rows
    photo_file("in/a.png", 24, 24)  # another picture of the same name
    passes(again, 0, told=True)
    passes(again, 2)
    assert again.counts == {"skipped": 2, "ok": 1}
    assert pixels_of(tmp_path / "out" / "a.png").shape == (24, 24, 3)


def test_without_messages_the_folder_is_looked_at_now_and_then(watched, photo_file, tmp_path):
    watch = watched()
    watch.look(told=False)
    photo_file("in/a.png", 16, 16)
    passes(watch, LOOK_S - 1)
    assert not watch.waiting
    passes(watch, 1)
    passes(watch, 1)
    assert watch.counts == {"ok": 1}


def test_results_that_are_not_ours_and_names_that_collide_fail_alone(watched, photo_file, tmp_path):
    precious = photo_file("out/a.png", 8, 8).read_bytes()
    watch = watched()
    watch.look(told=False)
    photo_file("in/a.png", 16, 16)
    photo_file("in/b.png", 16, 16)
    passes(watch, 0, told=True)
    passes(watch, 2)
    assert watch.counts == {"ok": 1, "failed": 1}
    assert "is not a result of ours" in watch.listener.rows[0].error
    assert (tmp_path / "out" / "a.png").read_bytes() == precious
    photo_file("in/B.png", 16, 16)  # one name with b.png on other file systems
    passes(watch, 0, told=True)
    passes(watch, 2)
    assert watch.counts == {"ok": 1, "failed": 2}
    assert "would both become" in watch.listener.rows[-1].error
    passes(watch, 2, told=True)
    assert watch.counts == {"ok": 1, "failed": 2}


def test_results_inside_of_the_folder_are_no_pictures_that_arrive(watched, photo_file, tmp_path):
    watch = watched(recursive=True)
    watch.naming = Naming(task="derain", output=str(tmp_path / "in" / "out"))
    os.utime(photo_file("in/a.png", 16, 16), (1e9, 1e9))
    watch.look(told=False)
    passes(watch, 2, told=True)
    passes(watch, 2, told=True)
    assert results(tmp_path / "in") == ["a.png", "out/a.png"]
    assert watch.counts == {"ok": 1}


def test_a_name_that_is_no_text_is_restored_once(watched, photo_file, tmp_path):
    source = photo_file("a.png", 16, 16)
    odd = os.fsencode(tmp_path / "in") + b"/\xff.png"
    try:
        source.rename(os.fsdecode(odd))
    except OSError:
        pytest.skip("this file system takes text only")
    watch = watched()
    watch.look(told=False)
    passes(watch, 2)
    passes(watch, 2, told=True)
    assert watch.counts == {"ok": 1}
    assert not watch.waiting


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("nothing", "-o", "out", "--task", "derain"), InputError.exit_code, "There is no folder"),
        ((".", "-o", "out", "--task", "derian"), UsageError.exit_code, "Did you mean derain?"),
        ((".", "-o", "a.png", "--task", "derain"), UsageError.exit_code, "is no folder"),
        (("s3://a/b", "-o", "o", "--task", "derain"), UsageError.exit_code, "is an address"),
    ],
)
def test_what_cannot_be_watched_is_refused(cli, tmp_path, monkeypatch, arguments, code, sentence):
    pytest.importorskip("watchfiles")
    monkeypatch.chdir(tmp_path)
    refused = cli("watch", *arguments)
    assert refused.exit_code == code, refused.stderr
    assert sentence in refused.stderr


def test_without_its_package_one_sentence_says_what_to_install(cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    refused = cli("watch", tmp_path, "-o", tmp_path / "out", "--task", "derain")
    assert refused.exit_code == UsageError.exit_code
    assert "restore watch needs a further package" in refused.stderr
    assert re.search(r"Install it: .*watch", refused.stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_the_command_restores_what_arrives_until_it_is_ended(
    identity_weights, photo_file, tmp_path
):
    pytest.importorskip("watchfiles")
    (tmp_path / "in").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "restorecli", "watch", "in", "-o", "out", "--task", "derain",
         "--settle", "0.3", "--json", "--weights", identity_weights],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        assert "Watching in" in process.stderr.readline()
        for number in range(2):
            Image.fromarray(np.full((16, 16, 3), number, np.uint8)).save(
                tmp_path / "in" / f"{number}.png"
            )
            row = json.loads(process.stdout.readline())
            assert (row["input"], row["status"]) == (f"in/{number}.png", "ok")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 0
    assert json.loads(out) == {"type": "summary", "counts": {"ok": 2, "failed": 0, "skipped": 0}}
    assert results(tmp_path / "out") == ["0.png", "1.png"]
    assert {record["output"] for record in read_manifest(tmp_path / "out")} == {"0.png", "1.png"}


def test_an_interruption_while_a_picture_is_restored_ends_the_watch(
    watched, photo_file, tmp_path, monkeypatch
):
    for name in ("in/a.png", "in/b.png", "in/c.png"):
        os.utime(photo_file(name, 16, 16), (1e9, 1e9))
    watch = watched()
    finish = watch.listener.finish

    def interrupt(row):
        finish(row)
        if len(watch.listener.rows) == 1:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.01)

    watch.listener.finish = interrupt
    with pytest.raises(KeyboardInterrupt):
        watch.look(told=False)
    assert "a.png" in results(tmp_path / "out")
    finished = watch.counts["ok"]
    again = watched()
    again.look(told=False)
    assert again.counts == {"skipped": finished, "ok": 3 - finished}
    assert results(tmp_path / "out") == ["a.png", "b.png", "c.png"]
