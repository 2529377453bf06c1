"""Training of spectral networks: what is packed, what a sample is, how a run goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from restorecli.weights.checkpoint import load_spectral_model
from training.spectral import data, train
from training.spectral.evaluate import loaded

SCENES = ("apples", "beads", "face")  # the last is held out


def scene(name: str) -> np.ndarray:
    """Reflectances of a scene that does not exist: (31, 256, 256)."""
    chance = np.random.default_rng(SCENES.index(name))
    blocks = chance.random((31, 8, 8), np.float32).repeat(32, 1).repeat(32, 2)
    return np.sort(blocks, 0)


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """A pack of two scenes and a mask, made as the command makes it."""
    path = tmp_path_factory.mktemp("pack") / "pack.safetensors"
    mask = np.linspace(0, 1, 256**2, dtype=np.float32).reshape(256, 256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "scene_names", lambda _: list(SCENES))
        patch.setattr(data, "read_scene", lambda _, name: scene(name))
        data.pack(Path(), mask, path)
    return path


def run(pack: Path, out: Path, kind: str, *options: str) -> None:
    """The command."""
    command = [kind, "--data", str(pack), "--out", str(out), "--minutes", "5", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train", *command, "--batch", "1", "--side", "32", *options])
        train.main()


def test_a_pack_holds_the_scenes_for_training_and_the_mask_and_nothing_held_out(pack):
    scenes, mask = data.unpack(pack)
    assert sorted(scenes) == ["apples", "beads"]
    values = data.reflectance(torch.from_numpy(scenes["beads"])).numpy()
    assert np.abs(values - scene("beads")).max() < 2 / 255
    assert mask.shape == (256, 256)
    assert float(mask[-1, -1]) == 1


def test_samples_follow_from_seed_and_step(pack):
    scenes, mask = data.unpack(pack)
    crops = data.Crops(scenes.values(), 3, "cpu")
    for made in (
        lambda step: crops.pairs(step, 2, 32),
        lambda step: crops.coded(step, 2, 32, mask),
    ):
        first, again, later = made(5), made(5), made(6)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not torch.equal(first[0], later[0])


def test_a_run_that_was_resumed_equals_one_that_was_not(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "rate_at", lambda progress, highest: highest)
    run(pack, tmp_path / "whole", "glmha", "--steps", "4")
    run(pack, tmp_path / "parts", "glmha", "--steps", "2")
    run(pack, tmp_path / "parts", "glmha", "--steps", "4", "--resume")
    states = [
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["average"]
        for name in ("whole", "parts")
    ]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_what_is_exported_is_a_network_that_the_command_can_read(pack, tmp_path):
    out = tmp_path / "csa.safetensors"
    run(pack, tmp_path / "run", "csa", "--steps", "1", "--export", str(out))
    stored = load_spectral_model(None, out).network.state_dict()
    trained = loaded(str(tmp_path / "run" / "checkpoint.pt")).state_dict()
    assert stored.keys() == trained.keys()
    for key, value in trained.items():
        torch.testing.assert_close(stored[key].float(), value, atol=1e-3, rtol=1e-3)


def test_a_network_may_start_from_another_and_glmha_from_the_published_attention(pack, tmp_path):
    csa, same, low = (tmp_path / f"{name}.safetensors" for name in ("csa", "same", "low"))
    run(pack, tmp_path / "csa", "csa", "--steps", "1", "--export", str(csa))
    started = "--steps", "0", "--start", str(csa), "--export"
    run(pack, tmp_path / "same", "csa", *started, str(same))
    run(pack, tmp_path / "low", "glmha", *started, str(low))
    full, again, few = (load_file(path) for path in (csa, same, low))
    assert all(torch.equal(value, again[key]) for key, value in full.items())
    block = "body.0.bottleneck.blocks.0.0"  # four heads of 31 channels, of which 23 are kept
    assert torch.equal(few[f"{block}.to_q.weight"], full[f"{block}.to_k.weight"])
    heads = full[f"{block}.to_q.weight"].unflatten(0, (4, 31))
    assert torch.equal(few[f"{block}.to_k.weight"].unflatten(0, (4, 23)), heads[:, :23])
    assert torch.equal(few["conv_out.weight"], full["conv_out.weight"])


BARE = """
import sys
from importlib.metadata import packages_distributions
kept = {
    "torch", "torchgen", "functorch", "numpy", "cv2", "safetensors", "restorecli",
    "typing_extensions", "sympy", "mpmath", "packaging", "filelock", "fsspec", "jinja2",
    "markupsafe", "networkx", "setuptools", "pkg_resources",  # which torch brings with it
}
for name in set(packages_distributions()) - kept:
    sys.modules[name] = None  # cannot be imported
from training.spectral import train
sys.argv[1:1] = ["cassi"]
train.main()
"""


def test_a_cassi_network_trains_where_nothing_but_torch_numpy_opencv_and_safetensors_is(
    pack, tmp_path
):
    out = tmp_path / "cassi.safetensors"
    options = ["--data", pack, "--out", tmp_path / "run", "--minutes", "5", "--steps", "1"]
    options += ["--batch", "1", "--side", "32", "--validate", "--export", out]
    command = [sys.executable, "-c", BARE, *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"step": 1' in done.stdout
    assert out.stat().st_size < 8_000_000
