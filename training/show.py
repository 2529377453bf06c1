"""Contact sheet of samples: ``python -m training.show derain --photos DIR -o sheet.png``."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from training.data import load_photographs, random_crop
from training.tasks import TASKS


def main() -> None:
    """Degrade random crops and write them as one picture."""
    parser = argparse.ArgumentParser(prog="python -m training.show", description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--photos", type=Path, required=True, help="folder of clean photographs")
    parser.add_argument("-o", "--output", type=Path, default=Path("sheet.png"))
    parser.add_argument("--patch", type=int, default=256, help="side of a sample in pixels")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    photographs = load_photographs(args.photos)
    task = TASKS[args.task]
    degrade = task.degradation()
    rows = []
    for row in range(args.rows):
        cells = []
        for column in range(args.columns):
            rng = np.random.default_rng((args.seed, row, column))
            chosen = photographs[int(rng.integers(len(photographs)))]
            clean = random_crop(chosen, args.patch, rng, scene=task.scene)
            made = degrade(clean, rng)
            cells.append(made[0] if isinstance(made, tuple) else made)
        rows.append(np.hstack(cells))
    sheet = np.round(np.vstack(rows) * 255).astype(np.uint8)
    args.output.write_bytes(cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())


if __name__ == "__main__":
    main()
