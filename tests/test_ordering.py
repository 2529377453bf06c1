"""One order of channels for every picture, in place of one for each."""

from __future__ import annotations

import json

import cv2
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from restorecli.networks import HINT
from restorecli.networks.hint import HierarchicalAttention
from tests.test_strips import SMALL, image_for, lively
from training import ordering


def sorting(**options) -> HINT:
    return lively(HINT(**SMALL, **options)).double()


def unsorted(weights, **options) -> HINT:
    network = HINT(sort_channels=False, **SMALL, **options).double().eval()
    network.load_state_dict(weights)
    return network


@pytest.mark.parametrize("bias", [False, True])
def test_in_the_order_of_a_picture_no_sorting_gives_what_sorting_gives(bias):
    network = sorting(bias=bias)
    x = image_for(network, 24, 32)
    orders = ordering.mean_orders(network, [x])
    assert len(orders) == sum(isinstance(m, HierarchicalAttention) for m in network.modules())
    assert any(not torch.equal(o, torch.arange(len(o))) for o in orders.values())
    weights = network.state_dict()
    with torch.no_grad():
        expected = network(x)
        found = unsorted(ordering.ordered(weights, orders), bias=bias)(x)
        as_they_lie = unsorted(weights, bias=bias)(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert (as_they_lie - expected).abs().max() > 1e-3, "the order would not matter"


def test_a_channel_takes_its_mean_place():
    network = sorting()
    pictures = [image_for(network, 24, 32, seed=seed) for seed in range(3)]
    alone = [ordering.mean_orders(network, [x]) for x in pictures]
    together = ordering.mean_orders(network, pictures)
    differ = 0
    for name, order in together.items():
        places = torch.stack([of_one[name].argsort() for of_one in alone]).double().mean(0)
        assert torch.equal(places[order], places.sort().values)
        differ += not torch.equal(order, alone[0][name])
    assert differ, "all pictures have the same order"


def test_without_an_order_for_each_picture_rounding_decides_nothing():
    """Two positions at the lowest level: all correlations are 1 or −1, or would be if exact."""
    x = image_for(sorting(), 8, 16)

    def change(network):
        with torch.no_grad():
            exact = network(x)
            return float((network.float()(x.float()) - exact).abs().max())

    network = sorting()
    continuous = change(unsorted(network.state_dict()))
    assert continuous < 1e-4
    assert change(network) > 10 * continuous


def test_the_command_writes_weights_in_their_mean_order(tmp_path, monkeypatch):
    options = {**SMALL, "num_blocks": list(SMALL["num_blocks"]), "packing": 2}
    tiny = ordering.TASKS["denoise"].__class__(
        degradation=ordering.TASKS["denoise"].degradation, options=options
    )
    monkeypatch.setitem(ordering.TASKS, "denoise", tiny)
    monkeypatch.setattr(ordering, "PATCH_PX", 32)
    monkeypatch.setattr(ordering, "SAMPLES", 2)
    photos = tmp_path / "photos"
    photos.mkdir()
    picture = (255 * image_for(HINT(**SMALL), 48, 64)[0].permute(1, 2, 0).numpy()).astype("uint8")
    cv2.imwrite(str(photos / "a.png"), picture)
    network = lively(HINT(**options))
    source, target = tmp_path / "sorted.safetensors", tmp_path / "ordered.safetensors"
    safetensors.torch.save_file(network.state_dict(), source, {"options": json.dumps(options)})
    monkeypatch.setattr(
        "sys.argv",
        ["ordering", "denoise", str(source), "--photos", str(photos), "-o", str(target)],
    )
    ordering.main()
    before, after = safetensors.torch.load_file(source), safetensors.torch.load_file(target)
    assert before.keys() == after.keys()
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert moved
    assert all(".qkv" in name for name in moved)
    with safe_open(target, "pt") as opened:
        assert json.loads(opened.metadata()["options"]) == {**options, "sort_channels": False}
