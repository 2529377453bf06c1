"""How many cores other processes leave, and how many threads share a picture then."""

from __future__ import annotations

import math
import sys
import time

import numpy as np
import pytest
import torch

from restorecli.engine import engine as engines
from restorecli.engine.settings import EngineSettings
from restorecli.machine import load
from restorecli.machine.load import Moment, Watch
from restorecli.weights import ChosenModel, registry

STAT = """\
cpu  1000 200 300 9000 0 0 0 0 0 0
cpu0 500 100 100 4500 7 0 0 0 0 0
cpu1 400 0 150 4000 7 0 0 0 0 0
cpu10 900 900 900 4000 7 0 0 0 0 0
intr 5 0 0
"""


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(load, "cores", lambda: {0, 1, 2, 3})


def watched(monkeypatch, *moments):
    """A watch that begins at the first of ``moments`` and is asked at the others."""
    given = iter(moments)
    monkeypatch.setattr(load, "moment", lambda: next(given))
    watch = Watch()
    watch.begin()
    return [watch.free_cores() for _ in moments[1:]]


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("busy_s", "own_s", "free"),
    [(0.0, 0.0, 4.0), (2.0, 0.0, 3.0), (5.0, 3.0, 3.0), (1.9, 2.0, 4.0), (8.0, 0.0, 0.0)],
)
def test_what_others_use_is_not_free(monkeypatch, busy_s, own_s, free):
    found = watched(monkeypatch, Moment(10, 100, 50), Moment(12, 100 + busy_s, 50 + own_s))
    assert found == [pytest.approx(free)]


@pytest.mark.usefixtures("four_cores")
def test_a_short_look_says_nothing_new(monkeypatch):
    moments = [Moment(at, busy, 0) for at, busy in ((0, 0), (1, 1), (1.1, 9), (2, 1.9))]
    assert watched(monkeypatch, *moments) == [3, 3, pytest.approx(3.1)]
    assert watched(monkeypatch, Moment(0, 0, 0), Moment(0.1, 3, 0)) == [math.inf]


def test_where_nobody_knows_all_cores_are_free(monkeypatch, tmp_path):
    monkeypatch.setattr(load, "STAT", tmp_path / "absent")
    assert load.moment() is None
    watch = Watch()
    watch.begin()
    assert watch.free_cores() == math.inf


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
@pytest.mark.parametrize(("niceness", "ticks"), [(0, 1150), (5, 1250)])
def test_ticks_of_own_cores_are_counted(monkeypatch, tmp_path, niceness, ticks):
    (tmp_path / "stat").write_text(STAT)
    monkeypatch.setattr(load, "STAT", tmp_path / "stat")
    monkeypatch.setattr(load, "cores", lambda: {0, 1})
    monkeypatch.setattr(load.os, "nice", lambda step: niceness)
    monkeypatch.setattr(load.os, "sysconf", lambda name: 100)
    assert load.moment().busy_s == ticks / 100


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_own_work_is_seen():
    before, end = load.moment(), time.process_time() + 0.3
    while time.process_time() < end:
        pass
    after = load.moment()
    assert after.own_s - before.own_s >= 0.25
    assert after.busy_s - before.busy_s >= 0.25


@pytest.mark.parametrize(
    ("free", "precision", "threads", "expected"),
    [
        (3.9, "bf16", None, 4),
        (1.4, "bf16", None, 1),
        (0.2, "bf16", None, 1),
        (2.6, "bf16", None, 3),
        (math.inf, "bf16", None, 4),
        (1.4, "bf16", 4, 4),  # it was asked for
        (1.4, "fp32", None, 4),  # the number decides on the last bits
    ],
)
def test_threads_leave_cores_that_others_use(monkeypatch, free, precision, threads, expected):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(load.WATCH, "free_cores", lambda: free)
    monkeypatch.setattr(engines, "default_threads", lambda found: 4)
    rooms = []
    real = engines.restored_rows

    def seen(*args, room, **options):
        rooms.append(room)
        return real(*args, room=room, **options)

    monkeypatch.setattr(engines, "restored_rows", seen)
    before = torch.get_num_threads()
    settings = EngineSettings(
        model=ChosenModel(entry=registry()["hint-denoise-packed"]),
        device="cpu",
        precision=precision,
        threads=threads,
    )
    try:
        engines.prepare(settings).restore(np.zeros((16, 16, 3), np.uint8))
    finally:
        torch.set_num_threads(before)
    assert {room.workers for room in rooms} == {expected}
