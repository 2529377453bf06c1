"""Does memory grow over a batch? ``python -m benchmarks.batch_memory [FILES]``.

Restores many small pictures with a tiny network and compares the memory of the process (resident
set) after 50 of them with that at the end.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from restorecli.engine.chain import prepare_chain
from restorecli.engine.settings import EngineSettings
from restorecli.networks import NETWORKS
from restorecli.report import Row
from restorecli.runs import local as batch
from restorecli.runs.job import make_job
from restorecli.runs.naming import Naming
from restorecli.weights import choose_model
from tests.conftest import TINY, save_weights

WARM = 50


class Watch:
    """Notes the memory after each picture."""

    def __init__(self) -> None:
        self.resident_bytes: list[int] = []

    def start(self, total: int) -> None:
        """Nothing to draw."""

    def begin(self) -> None:
        """Nothing to draw."""

    def advance(self, share: float) -> None:
        """Nothing to draw."""

    def finish(self, row: Row) -> None:
        """One picture is done."""
        assert row.status == "ok", row.error
        self.resident_bytes.append(psutil.Process().memory_info().rss)


def measure(folder: Path, count: int) -> tuple[list[int], float]:
    """Restore ``count`` pictures of 32×32; the memory after each, and the seconds."""
    torch.manual_seed(0)
    weights = save_weights(folder / "tiny.safetensors", NETWORKS["hint"](**TINY), "hint", TINY)
    (folder / "in").mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        values = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / "in" / f"{i}.png")
    naming = Naming(task="derain", output=str(folder / "out"))
    settings = EngineSettings(model=choose_model("derain", weights=weights), device="cpu")
    job = make_job([folder / "in"], naming, settings)
    engine = prepare_chain([settings])
    watch = Watch()
    started = time.perf_counter()
    batch.run_with(engine, job, watch)
    return watch.resident_bytes, time.perf_counter() - started


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as scratch:
        resident_bytes, elapsed_s = measure(Path(scratch), count)
    warm, end = resident_bytes[WARM - 1], resident_bytes[-1]
    print(f"{count} pictures in {elapsed_s:.0f} s, {count / elapsed_s:.1f} per second")
    print(
        f"after {WARM}: {warm / 1e6:.1f} MB; at the end: {end / 1e6:.1f} MB "
        f"({(end / warm - 1) * 100:+.1f} %); peak: {max(resident_bytes) / 1e6:.1f} MB"
    )
