"""In a container of 1 GB and half a core: a folder with a 24-megapixel picture is restored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

GROUPS = Path("/sys/fs/cgroup")
LIMIT_BYTES = 1_000_000_000
ROOT = Path(__file__).parents[1]


@pytest.fixture
def group():
    """Files that take a process into the group; skipped where nobody may make one."""
    name = f"restore-test-{os.getpid()}"
    if (GROUPS / "cgroup.controllers").exists():
        folders = [GROUPS / name]
        limits = {"memory.max": LIMIT_BYTES, "memory.swap.max": 0, "cpu.max": "50000 100000"}
    else:
        folders = [GROUPS / "memory" / name, GROUPS / "cpu" / name]
        limits = {
            "memory.limit_in_bytes": LIMIT_BYTES,
            "cpu.cfs_period_us": 100_000,
            "cpu.cfs_quota_us": 50_000,
        }
    try:
        for folder in folders:
            folder.mkdir()
        for limit, value in limits.items():
            for folder in folders:
                if (folder / limit).exists():
                    (folder / limit).write_text(str(value))
        if not any((folder / "cgroup.procs").exists() for folder in folders):
            raise OSError
    except OSError:
        pytest.skip("groups of processes cannot be made here")
    yield [folder / "cgroup.procs" for folder in folders]
    for folder in folders:
        for _ in range(50):
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)


@pytest.mark.long
@pytest.mark.parametrize("network", ["identity", "bundled"])
def test_a_folder_with_24_megapixels_is_restored(group, tmp_path, identity_weights, network):
    rows, columns = np.mgrid[:4_000, :6_000]
    large = np.stack([rows // 16, columns // 24, (rows + columns) // 40], -1).astype(np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(large).save(tmp_path / "in" / "large.jpg", quality=95)
    Image.fromarray(large[::40, ::40]).save(tmp_path / "in" / "small.png")

    def enter():
        for file in group:
            file.write_text(str(os.getpid()))

    options = ["--weights", identity_weights] if network == "identity" else []
    command = [sys.executable, "-m", "restorecli", "derain", "in", "-o", "out", "--json", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("OMP_NUM_THREADS", None)
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        preexec_fn=enter, timeout=3_000,
    )  # fmt: skip
    assert ended.returncode != -signal.SIGKILL, "it took more than its memory"
    assert ended.returncode == 0, ended.stderr
    rows_told = [json.loads(line) for line in ended.stdout.splitlines()][:-1]
    assert {row["status"] for row in rows_told} == {"ok"}
    with Image.open(tmp_path / "out" / "large.jpg") as made:
        assert made.size == (6_000, 4_000)
