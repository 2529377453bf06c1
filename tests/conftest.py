from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

os.environ["HF_HUB_OFFLINE"] = "1"  # before the client reads it: no test asks the real Hub

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a script
    signal.signal(signal.SIGINT, signal.default_int_handler)

from restorecli import cli as command_line
from restorecli.commands import restore as restore_command
from restorecli.networks import NETWORKS

hypothesis.settings.register_profile("untimed", deadline=None)  # no test is about speed
hypothesis.settings.load_profile("untimed")

TINY = {"dim": 8, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1}


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path_factory):
    """No test reads or writes the cache, registry and settings of whoever runs it."""
    for name in [name for name in os.environ if name.startswith("RESTORE_")]:
        monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("own")
    # All may use the machine code that one has made; basetemp's parent is that of all processes.
    kernels = tmp_path_factory.getbasetemp().parent / "kernels"
    kernels.mkdir(mode=0o700, exist_ok=True)
    (folder / "kernels").symlink_to(kernels)
    monkeypatch.setenv("RESTORE_HOME", str(folder))
    # A thread that makes kernels beside a command could outlive a test, and write into the next's.
    monkeypatch.setattr(restore_command, "make_kernels", lambda **_: None)
    return folder


@dataclass
class Outcome:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def lines(self):
        return [json.loads(line) for line in self.stdout.splitlines()]


@pytest.fixture
def cli(monkeypatch, capsys):
    """The real command, in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["restore", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        captured = capsys.readouterr()
        return Outcome(ended.value.code or 0, captured.out, captured.err)

    return run


def save_weights(path, network, name, options):
    metadata = {"network": name, "options": json.dumps(options)}
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    safetensors.torch.save_file(state, path, metadata)
    return path


@pytest.fixture
def identity_weights(tmp_path):
    """A small HINT whose last convolution is zero: the residual gives the image back."""
    network = NETWORKS["hint"](**TINY)
    torch.nn.init.zeros_(network.output.weight)
    return save_weights(tmp_path / "identity.safetensors", network, "hint", TINY)


@pytest.fixture
def random_weights(tmp_path):
    """A small HINT that changes a picture visibly."""
    torch.manual_seed(0)
    network = NETWORKS["hint"](**TINY)
    return save_weights(tmp_path / "random.safetensors", network, "hint", TINY)


@pytest.fixture
def picture():
    """Uint8 RGB (H, W, 3) with structure: gradients and noise."""

    def make(height, width, seed=0):
        rng = np.random.default_rng(seed)
        rows, columns = np.mgrid[:height, :width]
        smooth = np.stack([rows * 2, columns * 3, rows + columns], -1) % 256
        return (smooth // 2 + rng.integers(0, 128, (height, width, 3))).astype(np.uint8)

    return make


@pytest.fixture
def photo_file(tmp_path, picture):
    """Write a picture and return its path."""

    def make(name="photo.png", height=48, width=40, **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(height, width)).save(path, **options)
        return path

    return make


def pixels_of(path):
    with Image.open(path) as opened:
        return np.asarray(opened)


def run_command(*arguments, cwd, **options):
    """The real command as a process of its own, from this working tree."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "restorecli", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, env=environment, timeout=600, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    """A real Chromium, for tests that are marked so."""
    from tests.browsing import chromium

    with chromium() as started:
        yield started
