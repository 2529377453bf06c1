"""Checkpoints of spectral networks are recognised by their keys."""

from __future__ import annotations

import pytest
import torch

from restorecli.errors import WeightsError
from restorecli.networks import NETWORKS
from restorecli.weights import registry
from restorecli.weights.checkpoint import load_model, load_spectral_model
from restorecli.weights.install import import_file

KINDS = [
    ("mst_plus_plus", {"stage": 2}, "spectral"),
    ("mst_plus_plus", {"stage": 1, "attention": "glmha", "preset": "table"}, "spectral"),
    ("mst_plus_plus", {"stage": 1, "attention": "glmha", "position": "value"}, "spectral"),
    ("mst_rgb", {"num_blocks": [1, 2, 1]}, "spectral"),
    ("mst_cassi", {"num_blocks": [2, 1, 1]}, "cassi"),
    ("mst_cassi", {"num_blocks": [1, 1, 1], "attention": "glmha", "kernel": 5}, "cassi"),
    ("root_polynomial", {}, "spectral"),
]


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(("name", "options", "task"), KINDS)
def test_a_file_is_recognised_by_its_keys_alone(tmp_path, name, options, task, prefix):
    torch.manual_seed(0)
    network = NETWORKS[name](**options)
    state = {prefix + key: value for key, value in network.state_dict().items()}
    path = tmp_path / "theirs.pth"
    torch.save({"state_dict": state, "epoch": 3} if prefix else state, path)
    entry = import_file(path, task=task, entry_id="mine")
    assert entry.network == name
    loaded = load_spectral_model(registry()["mine"], None).network
    assert type(loaded) is type(network)
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    x = torch.rand(1, 28 if task == "cassi" else 3, 8, 8)
    inputs = (x, torch.rand(8, 8)) if task == "cassi" else (x,)
    with torch.inference_mode():
        assert torch.equal(loaded(*inputs), network.eval()(*inputs))


def test_a_published_entry_takes_the_file_that_a_person_brings(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "mst_plus_plus.pth"
    torch.save({"state_dict": NETWORKS["mst_plus_plus"]().state_dict()}, path)
    entry = import_file(path, entry_id="mst-plus-plus")
    assert entry.encoding == "linear"
    assert entry.stretched
    assert load_spectral_model(entry, None).id == "mst-plus-plus"


def test_a_network_of_the_other_kind_is_refused_with_what_it_does(tmp_path):
    path = tmp_path / "spectral.pth"
    torch.save(NETWORKS["mst_plus_plus"](stage=1).state_dict(), path)
    with pytest.raises(WeightsError, match="makes spectra of pictures"):
        load_model(None, path)
    small = {"dim": 8, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1}
    torch.save(NETWORKS["restormer"](**small).state_dict(), path)
    with pytest.raises(WeightsError, match="makes no spectra"):
        load_spectral_model(None, path)


def test_the_variant_for_whole_measurements_is_refused_by_its_extra_layer(tmp_path):
    path = tmp_path / "fution.pth"
    state = NETWORKS["mst_cassi"](num_blocks=[1, 1, 1]).state_dict()
    torch.save({**state, "fution.weight": torch.zeros(28, 28, 3, 3)}, path)
    with pytest.raises(WeightsError, match=r"1 keys unknown, first 'fution.weight'"):
        load_spectral_model(None, path)
