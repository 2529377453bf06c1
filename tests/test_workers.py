"""Threads that share the rows of a picture: what they give, and what becomes of a fault in one."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch

from restorecli.engine import plan
from restorecli.engine.plan import Demand, Memory, make_plan, smaller_plan
from restorecli.errors import DeviceError
from restorecli.networks import HINT
from restorecli.networks.strips import Room, resident_bytes, restored_rows, rows, workers
from restorecli.networks.strips.rows import SUM_ROWS
from restorecli.networks.strips.workers import LEAST_PIXELS, Workers, worker_count
from tests.test_strips import (
    MAIN,
    NETWORKS,
    SMALL,
    assert_same,
    by_strips,
    features_for,
    image_for,
    lively,
    restored_strips,
)

CPU = torch.device("cpu")


@pytest.fixture
def three_threads(monkeypatch):
    """Torch uses three threads, and they share pictures of any size."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    monkeypatch.setattr(workers, "LEAST_PIXELS", 1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(
    ("name", "strip_rows"), [(name, 3) for name in NETWORKS] + [(name, 1000) for name in MAIN]
)
def test_threads_that_share_rows_give_the_plain_forward_pass(name, strip_rows):
    network = lively(NETWORKS[name]()).double()
    assert_same(network, features_for(network, 72, 16), strip_rows)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("name", ["hint packed", "glmha text"])
def test_threads_that_keep_nothing_give_the_same(name):
    network = lively(NETWORKS[name]()).double()
    image = features_for(network, 88, 24)[0]

    alone = by_strips(network, image, strip_rows=5, room=Room(workers=1))
    for room in (Room(0), Room(0, 2), Room()):
        shared = by_strips(network, image, strip_rows=5, room=room)
        torch.testing.assert_close(shared, alone, rtol=0, atol=1e-10)


@pytest.mark.usefixtures("three_threads")
def test_threads_and_strips_change_no_value_of_bfloat16():
    network = lively(HINT(**(SMALL | {"dim": 32}), packing=2, sort_channels=False))
    assert network.latent[0].ffn.project_out.in_channels >= rows.SPLIT_CHANNELS
    image = image_for(network, 400, 328).float()[0]

    def restored(strip_rows, count):
        room = Room(workers=count)
        return by_strips(network, image, strip_rows=strip_rows, dtype=torch.bfloat16, room=room)

    first = restored(8, 1)
    for strip_rows, count in ((64, 1), (8, 2), (16, 3), (64, 3)):
        assert torch.equal(restored(strip_rows, count), first), (strip_rows, count)


@pytest.mark.usefixtures("three_threads")
def test_rows_are_read_from_the_top_and_told_by_the_thread_that_asks():
    network = lively(NETWORKS["hint packed"]())
    image = image_for(network, 160, 32).float()[0]
    asked, told = [], []

    def read(top, bottom):
        asked.append((top, threading.current_thread()))
        return image[:, top:bottom]

    def on_progress(share):
        told.append((share, threading.current_thread()))

    parts = restored_rows(
        network, read, (160, 32), strip_rows=8, dtype=image.dtype, on_progress=on_progress
    )
    starts = [start for start, _ in parts]
    assert starts == sorted(starts)
    assert {thread for _, thread in (*asked, *told)} == {threading.current_thread()}
    tops = [top for top, _ in asked]
    last = len(tops) // 2  # once for the first convolution, once for the result
    assert tops[:last] == sorted(tops[:last])
    assert tops[last:] == sorted(tops[last:])
    assert sum(share for share, _ in told) == pytest.approx(1)


@pytest.mark.usefixtures("three_threads")
def test_all_use_one_core_inside_and_what_they_did_outside():
    with Workers(CPU, 64 * 64) as crew:
        meeting = threading.Barrier(3, timeout=20)

        def seen(_item, _tick):
            meeting.wait()  # each in a thread of its own, at the same time
            return threading.current_thread(), torch.get_num_threads()

        found = crew.each(seen, [1, 2, 3], workers.silent)
        inside = torch.get_num_threads()
        with crew.outside():
            outside = torch.get_num_threads()
        later = []
        other = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        other.start()
        other.join()
    assert len({thread for thread, _ in found}) == 3
    assert [count for _, count in found] == [1, 1, 1]
    assert (inside, outside) == (1, 3)
    assert torch.get_num_threads() == 3
    assert later == [3]


@pytest.mark.usefixtures("three_threads")
def test_whoever_takes_rows_has_the_threads_that_torch_had():
    network = lively(NETWORKS["hint packed"]())
    image = image_for(network, 160, 32).float()[0]
    parts = restored_strips(network, image)
    assert {torch.get_num_threads() for _ in zip(range(2), parts, strict=False)} == {3}
    parts.close()  # not taken to the end
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_workers_see_the_modes_of_the_caller():
    with Workers(CPU, 64 * 64) as crew, torch.inference_mode():
        made = crew.each(lambda *_: torch.ones(1).is_inference(), [1, 2], workers.silent)
        grows = crew.each(lambda *_: torch.is_grad_enabled(), [1, 2], workers.silent)
    assert (made, grows) == ([True, True], [False, False])


@pytest.mark.usefixtures("three_threads")
def test_the_first_fault_stops_the_others_and_is_the_one_that_is_raised():
    done = []

    def work(item, tick):
        for step in range(100_000):
            if item == "bad" and step == 3:
                raise MemoryError("not enough")
            tick(0.0)
            if item == "good":
                done.append(step)

    with Workers(CPU, 64 * 64) as crew:
        with pytest.raises(MemoryError, match="not enough"):
            crew.each(work, ["good", "bad"], workers.silent)
        assert len(done) < 100_000
        assert crew.each(lambda item, _: 2 * item, [1, 2], workers.silent) == [2, 4]  # goes on


@pytest.mark.usefixtures("three_threads")
def test_an_interruption_of_the_caller_ends_the_workers():
    network = lively(NETWORKS["hint packed"]())
    image = image_for(network, 160, 32).float()[0]
    before = threading.active_count()

    def interrupted(_share):
        raise KeyboardInterrupt

    parts = restored_strips(network, image, on_progress=interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(parts)
    assert threading.active_count() == before


@pytest.mark.usefixtures("three_threads")
def test_a_system_that_allows_no_more_threads_is_served_by_one(monkeypatch):
    started = threading.Thread.start

    def refused(self):
        if self.name.startswith("strips") and self.name.endswith("_1"):
            raise RuntimeError("can't start new thread")
        started(self)

    monkeypatch.setattr(threading.Thread, "start", refused)
    network = lively(NETWORKS["hint packed"]()).double()
    assert_same(network, features_for(network, 72, 16), 8)


@pytest.mark.parametrize("height", [1, 8, 9, 40, 1000])
def test_sections_cover_all_rows_once_and_begin_with_a_sum(height, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    crew = Workers(CPU, 5 * LEAST_PIXELS)
    parts = crew.sections(height, 16).parts
    assert len(parts) == min(5, -(-height // SUM_ROWS))
    covered = [row for part in parts for strip in part for row in range(strip.start, strip.stop)]
    assert covered == list(range(height))
    assert all(strip.first == part[0].start for part in parts for strip in part)
    assert all(part[0].first % SUM_ROWS == 0 for part in parts)


@pytest.mark.parametrize(
    ("pixels", "count"), [(1, 1), (LEAST_PIXELS, 1), (3 * LEAST_PIXELS, 3), (2**30, 8)]
)
def test_a_small_picture_has_few_workers(pixels, count):
    assert worker_count(8, pixels) == count


def test_memory_allows_for_a_strip_in_each_thread():
    network = NETWORKS["restormer"]()
    need = partial(resident_bytes, network, 2000, 1000, strip_rows=16, bytes_per_value=4)
    assert need(workers=1) < need(workers=2) < need(workers=8)
    small = partial(resident_bytes, network, 64, 64, strip_rows=16, bytes_per_value=4)
    assert small(workers=1) == small(workers=8)  # a small picture has one worker


def test_fewer_threads_come_before_tiles_and_before_giving_up():
    demand = Demand(
        network=NETWORKS["hint"](),
        size=(2000, 1000),
        bytes_per_value=4,
        bytes_per_result=1,
        threads=16,
    )
    all_of_them = make_plan(demand, Memory(available_bytes=2**40), tile=None, overlap_px=64)
    assert all_of_them.workers == 16
    lowest = demand.needed(None, strip_rows=plan.LEAST_STRIP_ROWS, keep_bytes=0, workers=16)
    tight = Memory(available_bytes=2**40, max_bytes=int(lowest / plan.KEPT_SHARE) - 1)
    chosen = make_plan(demand, tight, tile=plan.AUTO, overlap_px=64)
    assert chosen.exact
    assert chosen.workers < 16
    alone = demand.needed(None, strip_rows=plan.LEAST_STRIP_ROWS, keep_bytes=0, workers=1)
    impossible = Memory(available_bytes=2**40, max_bytes=int(alone / plan.KEPT_SHARE) - 10**6)
    with pytest.raises(DeviceError, match="do not fit"):
        make_plan(demand, impossible, tile=None, overlap_px=64)
    assert smaller_plan(demand, all_of_them, may_tile=False).workers == 1
