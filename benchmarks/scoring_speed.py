"""How long scoring takes: ``python -m benchmarks.scoring_speed``.

Pairs of pictures are written to a temporary folder, then paired, read and scored as
``restore metrics`` does it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import psutil

from restorecli.machine.cores import available_cores
from restorecli.scoring import score as scoring
from restorecli.scoring.metrics import find_protocol


def cpu_s() -> float:
    """Processor time of this process and of the workers that have ended, in seconds."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Score and print the seconds per protocol."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 320), metavar=("W", "H"))
    parser.add_argument("--protocols", nargs="+", default=["rain", "sots"])
    parser.add_argument("--jobs", type=int, default=available_cores())
    args = parser.parse_args()
    width_px, height_px = args.size
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height_px, 0:width_px]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("out", "gt"):
            (folder / kind).mkdir()
        for i in range(args.pairs):
            wave = 128 + 90 * np.sin(x / (20 + i % 37) + y / (31 + i % 23))
            clean = np.stack([wave, np.roll(wave, 40, 1), 255 - wave], axis=2)
            for kind, sigma in (("out", 9), ("gt", 3)):
                noisy = np.clip(clean + rng.normal(0, sigma, clean.shape), 0, 255)
                data = cv2.imencode(".png", noisy.astype(np.uint8))[1].tobytes()
                (folder / kind / f"{i:04}.png").write_bytes(data)
        for protocol in args.protocols:
            start, cpu_start = time.perf_counter(), cpu_s()
            plan = scoring.plan([folder / "out"], folder / "gt")
            rows = list(scoring.score_all(plan.tasks, find_protocol(protocol), jobs=args.jobs))
            seconds = time.perf_counter() - start
            busy_s = cpu_s() - cpu_start
            print(
                f"{protocol}: {len(rows)} pairs of {width_px}×{height_px} in {seconds:.1f} s, "
                f"{args.jobs} processes on {psutil.cpu_count()} cores, "
                f"{busy_s:.1f} s of processor time, load {psutil.getloadavg()[0]:.1f}"
            )


if __name__ == "__main__":
    main()
