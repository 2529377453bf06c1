from __future__ import annotations

import pytest
import torch

from restorecli.commands.parsing import parse_memory, parse_overlap, parse_size, parse_tile
from restorecli.engine import devices, plan
from restorecli.engine.devices import choose_device, choose_precision
from restorecli.engine.engine import prepare
from restorecli.engine.plan import Demand, Memory, make_plan, smaller_plan
from restorecli.engine.settings import EngineSettings
from restorecli.errors import DeviceError, UsageError
from restorecli.limits import AUTO
from restorecli.networks import NETWORKS
from restorecli.weights import registry
from restorecli.weights.choice import CheckpointFile, ChosenModel
from restorecli.weights.registry import HalfPrecision
from tests.conftest import TINY

CPU = torch.device("cpu")
PLENTY = 2**40


@pytest.fixture
def network():
    return NETWORKS["hint"](**TINY)


def planned(
    network, size, available_bytes, tile=AUTO, overlap_px=64, max_bytes=None, bytes_per_result=1
):
    demand = Demand(
        network=network, size=size, bytes_per_value=4, bytes_per_result=bytes_per_result
    )
    memory = Memory(available_bytes=available_bytes, max_bytes=max_bytes)
    return make_plan(demand, memory, tile=tile, overlap_px=overlap_px)


def test_a_picture_that_fits_is_restored_whole(network):
    chosen = planned(network, (300, 200), PLENTY)
    assert chosen.exact
    assert chosen.predicted_bytes > 300 * 200 * 4


def test_a_picture_larger_than_memory_gets_the_largest_tiles_that_fit(network):
    available = planned(network, (4000, 4000), PLENTY).predicted_bytes // 8
    chosen = planned(network, (4000, 4000), available)
    assert not chosen.exact
    assert chosen.tile_px % 8 == 0
    assert chosen.predicted_bytes <= plan.MEMORY_SHARE * available
    larger = planned(network, (4000, 4000), PLENTY, tile=chosen.tile_px + plan.SMALLEST_TILE_PX)
    assert larger.predicted_bytes > plan.MEMORY_SHARE * available


@pytest.mark.parametrize(
    ("width", "rows"), [(1, 32), (256, 32), (1024, 32), (1100, 24), (2048, 16), (100_000, 8)]
)
def test_strips_hold_about_the_same_number_of_pixels(width, rows):
    assert plan.strip_height(width) == rows


@pytest.mark.parametrize(("width", "rows"), [(256, 8192), (2048, 2048), (6000, 696)])
def test_strips_of_a_gpu_are_high(network, width, rows):
    assert plan.strip_height(width, on_gpu=True) == rows
    demand = Demand(
        network=network, size=(9000, width), bytes_per_value=2, bytes_per_result=1, on_gpu=True
    )
    heights = demand.strip_heights(None)
    assert heights[0] == rows
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] == plan.LEAST_STRIP_ROWS


def test_keeping_less_and_lower_strips_come_before_tiles(network):
    plenty = planned(network, (1000, 1000), PLENTY)
    assert (plenty.exact, plenty.strip_rows, plenty.keep_bytes > 0) == (True, 32, True)
    less = planned(network, (1000, 1000), PLENTY, max_bytes=plenty.predicted_bytes - 1)
    assert (less.exact, less.strip_rows, less.keep_bytes) == (True, 32, 0)
    demand = Demand(network=network, size=(1000, 1000), bytes_per_value=4, bytes_per_result=1)
    for rows in (16, 8):
        needed = demand.needed(None, strip_rows=rows, keep_bytes=0)
        assert needed < less.needed_bytes
        most = int(needed / plan.KEPT_SHARE) + 1
        lower = planned(network, (1000, 1000), PLENTY, max_bytes=most)
        assert (lower.exact, lower.strip_rows, lower.keep_bytes) == (True, rows, 0)
    assert lower.predicted_bytes < plenty.predicted_bytes
    assert plenty.spare_bytes == int(plan.MEMORY_SHARE * PLENTY) - plenty.needed_bytes
    assert lower.spare_bytes == 0  # what else would use memory could change the plan


@pytest.mark.parametrize("tile", [None, 256])
def test_a_result_of_16_bits_takes_twice_the_memory_of_8(network, tile):
    eight, sixteen = (
        planned(network, (600, 500), PLENTY, tile=tile, bytes_per_result=size) for size in (1, 2)
    )
    assert sixteen.needed_bytes - eight.needed_bytes == 3 * 600 * 500


@pytest.mark.parametrize("tile", [AUTO, None, 256])
def test_a_limit_that_nothing_can_keep_is_a_device_error(network, tile):
    with pytest.raises(DeviceError, match="do not fit into --max-memory") as refused:
        planned(network, (1000, 1000), PLENTY, tile=tile, max_bytes=20_000_000)
    assert "--max-memory" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("2GB", 2 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("800mb", 8 * 10**8),
        ("7B", 7),
        ("2G", 2 * 10**9),
        (None, None),
    ],
)
def test_amounts_of_memory_are_read(text, size_bytes):
    assert parse_memory(text) == size_bytes


@pytest.mark.parametrize("text", ["2", "2000000000", "GB", "-1GB", "0GB", "2XB", "two GB", ""])
def test_impossible_amounts_of_memory_are_refused(text):
    with pytest.raises(UsageError, match="--max-memory"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "size"), [("4000x3000", (3000, 4000)), ("12MP", (3000, 4000)), ("8×5", (5, 8))]
)
def test_sizes_of_pictures_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["12", "0x5", "x", "4000x", "0MP", "-1MP", "1000000x2"])
def test_impossible_sizes_are_refused(text):
    with pytest.raises(UsageError, match="--size"):
        parse_size(text)


def test_an_explicit_tile_is_kept_and_none_means_whole(network):
    assert planned(network, (400, 400), 1, tile=96, overlap_px=8).tile_px == 96
    assert planned(network, (400, 400), 1, tile=None).exact
    assert planned(network, (90, 80), 1, tile=96, overlap_px=8).exact


@pytest.mark.parametrize(("may_tile", "tiles"), [(True, [None, 496, 248]), (False, [None])])
def test_lower_strips_come_before_halved_tiles_when_memory_ran_out(network, may_tile, tiles):
    demand = Demand(network=network, size=(1000, 600), bytes_per_value=4, bytes_per_result=1)
    current, tried = planned(network, demand.size, PLENTY, overlap_px=40), []
    while smaller := smaller_plan(demand, current, may_tile=may_tile):
        assert smaller.needed_bytes < current.needed_bytes
        tried.append(current := smaller)
    assert [plan.tile_px for plan in tried] == tiles
    assert {(plan.strip_rows, plan.keep_bytes, plan.overlap_px) for plan in tried} == {(8, 0, 40)}


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


@pytest.mark.parametrize(("tile", "overlap"), [(None, 64), (AUTO, 64), (512, 64), (96, 48)])
def test_the_default_overlap_is_at_most_half_the_tile(tile, overlap):
    assert parse_overlap(None, tile) == overlap


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1", ""])
def test_unknown_devices_are_usage_errors(name):
    with pytest.raises(UsageError, match="--device"):
        choose_device(name)


def test_a_cuda_device_beyond_the_last_one_is_a_device_error():
    with pytest.raises(DeviceError, match="no CUDA device 99"):
        choose_device("cuda:99")


def test_unknown_precision_is_refused():
    with pytest.raises(UsageError, match="--precision"):
        choose_precision("fp8", CPU, half_is_close=True)


@pytest.mark.parametrize("in_hardware", [True, False])
@pytest.mark.parametrize("half_is_close", [True, False])
def test_half_precision_is_automatic_where_it_is_fast_and_close(
    monkeypatch, in_hardware, half_is_close
):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: in_hardware)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    expected = torch.bfloat16 if in_hardware and half_is_close else torch.float32
    assert choose_precision("auto", CPU, half_is_close=half_is_close) == expected
    assert choose_precision("fp32", CPU, half_is_close=half_is_close) == torch.float32
    mps = choose_precision("auto", torch.device("mps"), half_is_close=half_is_close)
    assert mps == torch.float32


def half_precision(sha256, **figures):
    return HalfPrecision(pictures=1, command="a command", sha256=sha256, **figures)


@pytest.mark.parametrize(
    ("loss_db", "largest", "close"),
    [(0.02, 2, True), (-0.3, 0, True), (0.021, 1, False), (0.0, 3, False)],
)
def test_what_counts_as_close(loss_db, largest, close):
    record = half_precision("0" * 64, loss_db=loss_db, largest_difference=largest)
    assert record.is_close is close


def test_automatic_precision_is_that_of_the_network_and_not_of_a_file_of_ones_own(monkeypatch):
    monkeypatch.setattr(devices, "multiplies_bfloat16", lambda device: True)
    found = registry()["hint-derain-packed"]
    close = half_precision(found.sha256, loss_db=0, largest_difference=1)
    entry = found.model_copy(update={"bfloat16": close})

    def precision(**chosen):
        return prepare(EngineSettings(model=ChosenModel(**chosen), device="cpu")).precision_name

    assert precision(entry=entry) == "bf16"
    assert precision(entry=entry, file=CheckpointFile(entry.path)) == "fp32"
    assert precision(entry=entry.model_copy(update={"bfloat16": None})) == "fp32"


def test_a_network_that_sorts_channels_for_each_picture_stays_in_float32():
    entry = registry()["hint-dehaze-packed"]
    record = half_precision(entry.sha256, loss_db=0, largest_difference=1)
    close = entry.model_copy(update={"bfloat16": record})
    assert not close.is_close_in_bfloat16
    one_order = {**close.options, "sort_channels": False}
    assert close.model_copy(update={"options": one_order}).is_close_in_bfloat16
