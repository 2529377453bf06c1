"""The next picture is read and the last one written while one is restored; nothing else changes."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restorecli.engine import engine as engines
from restorecli.errors import OutputError
from restorecli.images.reading import _quiet_decoders
from restorecli.runs import picture as results
from restorecli.runs.local import READING_BYTES
from restorecli.runs.manifest import LOCK, MANIFEST, read_manifest
from restorecli.runs.overlap import Beside
from tests.conftest import pixels_of

TIMEOUT_S = 20
STAGES = ("read", "restore", "write")


class Stages:
    """The three stages of the real command, watched and disturbed from outside."""

    def __init__(self, monkeypatch):
        self.events = []  # (stage, begin or end, number of the picture, thread)
        self.changed = threading.Condition()
        self.before = lambda stage, number: None  # called in the stage
        self._watch(monkeypatch, results, "decode_photo", "read")
        self._watch(monkeypatch, results, "encode_photo", "write")
        self._watch(monkeypatch, engines.Engine, "_run", "restore")

    def _watch(self, monkeypatch, owner, name, stage):
        real = getattr(owner, name)

        def watched(*arguments, **options):
            number = sum(event[:2] == (stage, "begin") for event in self.events)
            self.note(stage, "begin", number)
            self.before(stage, number)
            result = real(*arguments, **options)
            self.note(stage, "end", number)
            return result

        monkeypatch.setattr(owner, name, watched)

    def note(self, stage, edge, number):
        with self.changed:
            self.events.append((stage, edge, number, threading.current_thread()))
            self.changed.notify_all()

    def seen(self, stage, edge, number):
        return any(event[:3] == (stage, edge, number) for event in self.events)

    def wait_for(self, stage, edge, number):
        with self.changed:
            assert self.changed.wait_for(lambda: self.seen(stage, edge, number), TIMEOUT_S)


@pytest.fixture
def stages(monkeypatch):
    return Stages(monkeypatch)


@pytest.fixture
def derain(cli, identity_weights, photo_file, tmp_path, monkeypatch):
    """`restore derain in -o out --json` of five pictures with an identity network."""
    monkeypatch.chdir(tmp_path)
    for number in range(5):
        photo_file(f"in/{number}.png", 24 + 8 * number, 24)
    return lambda *options: cli(
        "derain", "in", "-o", "out", "--json", "--weights", identity_weights, *options
    )


def names_in(folder):
    return sorted(p.name for p in folder.iterdir() if p.name not in {MANIFEST, LOCK})


def test_neighbours_are_read_and_written_meanwhile_and_never_more_than_one(derain, stages):
    def disturb(stage, number):
        if stage == "read" and number:
            stages.wait_for("restore", "begin", number - 1)
        if stage == "write" and number < 4:  # the last one is written when all else is done
            stages.wait_for("restore", "begin", number + 1)
        if (stage, number) == ("write", 0):
            time.sleep(0.5)  # time for what should not happen
            assert not stages.seen("restore", "begin", 2)
        if stage == "restore":
            if number < 4:
                stages.wait_for("read", "end", number + 1)
            time.sleep(0.03)
            assert not stages.seen("read", "begin", number + 2)

    stages.before = disturb
    outcome = derain()
    assert outcome.exit_code == 0, outcome.stderr
    assert [row["input"] for row in outcome.lines[:-1]] == [f"in/{n}.png" for n in range(5)]


@pytest.mark.parametrize("stage", STAGES)
def test_a_failure_in_any_stage_is_that_of_its_picture(derain, stages, stage, tmp_path):
    def fail(where, number):
        if (where, number) == (stage, 2):
            raise OutputError("on purpose")

    if stage == "read":  # read ahead in vain, and in its turn again
        (tmp_path / "in" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n on purpose")
    else:
        stages.before = fail
    outcome = derain()
    assert outcome.exit_code == 1
    rows = outcome.lines[:-1]
    assert [row["status"] for row in rows] == ["ok", "ok", "failed", "ok", "ok"]
    assert rows[2]["input"] == "in/2.png"
    assert rows[2]["error"]
    assert names_in(tmp_path / "out") == ["0.png", "1.png", "3.png", "4.png"]
    for number in (0, 1, 3, 4):
        degraded, restored = (tmp_path / folder / f"{number}.png" for folder in ("in", "out"))
        np.testing.assert_array_equal(pixels_of(restored), pixels_of(degraded))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("stage", "done"), [("read", 1), ("restore", 2), ("write", 3)])
def test_an_interruption_in_any_stage_leaves_whole_results_that_are_known(
    derain, stages, stage, done, tmp_path
):
    """While picture 2 is read, restored, or written: what is being written gets finished."""

    def interrupt(where, number):
        if (where, number) == (stage, 2):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.1)
        elif where == "restore" and number == done:
            for _ in range(100 * TIMEOUT_S):  # until the signal comes
                time.sleep(0.01)

    stages.before = interrupt
    outcome = derain()
    assert outcome.exit_code == 130
    *rows, summary = outcome.lines
    assert summary["interrupted"] is True
    expected = [f"{number}.png" for number in range(done)]
    assert [Path(row["input"]).name for row in rows] == expected
    assert names_in(tmp_path / "out") == expected
    assert sorted(r["output"] for r in read_manifest(tmp_path / "out")) == expected
    stages.before = lambda stage, number: None
    again = derain("--resume")
    assert again.exit_code == 0
    statuses = [row["status"] for row in again.lines[:-1]]
    assert statuses == ["skipped"] * done + ["ok"] * (5 - done)


def test_nothing_happens_beside_a_picture_that_takes_all_memory(derain, stages, monkeypatch):
    monkeypatch.setattr(engines, "free_bytes", lambda device: 1)
    assert derain().exit_code == 0
    order = [event[:3] for event in stages.events]
    assert order == [
        (stage, edge, number)
        for number in range(5)
        for stage in STAGES
        for edge in ("begin", "end")
    ]
    assert {event[3] for event in stages.events} == {threading.main_thread()}


def test_a_next_picture_too_large_for_the_memory_left_waits_for_its_turn(
    derain, stages, monkeypatch
):
    pixels = 39 * 24  # picture 1 has fewer, picture 2 more; none leaves room for writing
    monkeypatch.setattr(engines.Engine, "room_bytes", lambda self, plan: READING_BYTES * pixels)
    assert derain().exit_code == 0
    threads = [event[3] for event in stages.events if event[:2] == ("read", "end")]
    main = threading.main_thread()
    assert [thread is main for thread in threads] == [True, False, True, True, True]


def test_in_place_each_picture_is_replaced_by_its_own_result(
    cli, random_weights, photo_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        photo_file(f"in/{number}.png", 24, 24 + 8 * number)
    assert cli("derain", "in", "-o", "out", "--weights", random_weights).exit_code == 0
    assert cli("derain", "in", "--in-place", "--weights", random_weights).exit_code == 0
    for number in range(4):
        replaced, restored = (tmp_path / folder / f"{number}.png" for folder in ("in", "out"))
        assert replaced.read_bytes() == restored.read_bytes()


def test_what_writing_raises_comes_out_and_what_reading_raises_does_not():
    with Beside() as beside:
        assert beside.taken() is None
        beside.read(lambda: 7)
        assert beside.taken() == 7
        assert beside.taken() is None
        beside.read(lambda: 1 / 0)
        assert beside.taken() is None
        beside.write(lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            beside.write(lambda: None)
        beside.written()


def test_decoders_of_two_threads_do_not_disturb_one_another():
    before = Image.MAX_IMAGE_PIXELS
    left = threading.Event()
    limits = []

    def decode():
        with _quiet_decoders():
            left.wait(TIMEOUT_S)
            limits.append(Image.MAX_IMAGE_PIXELS)

    other = threading.Thread(target=decode)
    with _quiet_decoders():
        other.start()
        time.sleep(0.05)
    left.set()
    other.join()
    assert limits == [None]
    assert before == Image.MAX_IMAGE_PIXELS
