from __future__ import annotations

import pytest
import torch

from restorecli import plan
from restorecli.errors import DeviceError, UsageError
from restorecli.networks import NETWORKS
from restorecli.options import AUTO, parse_overlap, parse_tile
from restorecli.plan import choose_device, choose_precision, make_plan, smaller_plan
from tests.conftest import TINY

CPU = torch.device("cpu")


@pytest.fixture
def network():
    return NETWORKS["hint"](**TINY)


def test_a_picture_that_fits_is_restored_whole(network):
    chosen = make_plan(network, (300, 200), CPU, tile=AUTO, overlap_px=64)
    assert chosen.exact
    assert chosen.predicted_bytes > 0


def test_a_picture_larger_than_memory_gets_the_largest_tiles_that_fit(network, monkeypatch):
    whole = plan.forward_bytes(network, (4000, 4000))
    monkeypatch.setattr(plan, "free_bytes", lambda device: whole // 8)
    chosen = make_plan(network, (4000, 4000), CPU, tile=AUTO, overlap_px=64)
    assert not chosen.exact
    assert chosen.tile_px % 8 == 0
    budget = plan.MEMORY_SHARE * (whole // 8)
    assert plan.forward_bytes(network, (chosen.tile_px,) * 2) <= budget
    larger = chosen.tile_px + plan.SMALLEST_TILE_PX
    assert plan.forward_bytes(network, (larger, larger)) > budget


def test_an_explicit_tile_is_kept_and_none_means_whole(network, monkeypatch):
    monkeypatch.setattr(plan, "free_bytes", lambda device: 1)
    assert make_plan(network, (400, 400), CPU, tile=96, overlap_px=8).tile_px == 96
    assert make_plan(network, (400, 400), CPU, tile=None, overlap_px=8).exact
    assert make_plan(network, (90, 80), CPU, tile=96, overlap_px=8).exact


def test_tighter_plans_halve_until_the_smallest_tile(network):
    sizes = []
    current = make_plan(network, (1000, 600), CPU, tile=None, overlap_px=64)
    while (tighter := smaller_plan(current, (1000, 600))) is not None:
        sizes.append(tighter.tile_px)
        current = tighter
    assert sizes == [496, 248]


@pytest.mark.parametrize(("text", "value"), [("auto", AUTO), ("none", None), ("496", 496)])
def test_tile_sizes_are_read(text, value):
    assert parse_tile(text) == value


@pytest.mark.parametrize("text", ["500", "8", "0", "-8", "big", "1e3", ""])
def test_impossible_tile_sizes_are_refused(text):
    with pytest.raises(UsageError, match="--tile") as refused:
        parse_tile(text)
    assert refused.value.hint


@pytest.mark.parametrize(("overlap", "tile"), [(-1, None), (65, AUTO), (40, 64)])
def test_impossible_overlaps_are_refused(overlap, tile):
    with pytest.raises(UsageError, match="--overlap"):
        parse_overlap(overlap, tile)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1", ""])
def test_unknown_devices_are_usage_errors(name):
    with pytest.raises(UsageError, match="--device"):
        choose_device(name)


def test_a_cuda_device_beyond_the_last_one_is_a_device_error():
    with pytest.raises(DeviceError, match="no CUDA device 99"):
        choose_device("cuda:99")


def test_unknown_precision_is_refused():
    with pytest.raises(UsageError, match="--precision"):
        choose_precision("fp8")
