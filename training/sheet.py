"""Contact sheet of results: ``python -m training.sheet desnow -o docs/pictures/desnow.jpg``.

Photographs that scikit-image distributes, none of them used in training, are degraded as by
``restore degrade``, restored by the ``restore`` command itself, and laid out in rows: degraded,
restored, reference.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

from restorecli.degradations.kinds import KINDS, degraded
from training.data import load_photographs

SCENES = {"astronaut": 2, "coffee": 3, "rocket": 0, "chelsea": 4}  # and the seed of each
KIND_OF_TASK = {kind.task: name for name, kind in KINDS.items()}
SIDE_PX = 288


def middle(photograph: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The square in the middle of (H, W, 3): float32 (p, p, 3) in [0, 1]."""
    top, left = ((side - SIDE_PX) // 2 for side in photograph.shape[:2])
    square = photograph[top : top + SIDE_PX, left : left + SIDE_PX]
    return square.astype(np.float32) / np.float32(255)


def write(path: Path, picture: NDArray[np.float32]) -> None:
    """Save (H, W, 3) in [0, 1] in the format of the suffix."""
    levels = np.round(np.clip(picture, 0, 1)[..., ::-1] * 255).astype(np.uint8)
    how = [cv2.IMWRITE_JPEG_QUALITY, 88] if path.suffix == ".jpg" else []
    path.write_bytes(cv2.imencode(path.suffix, levels, how)[1].tobytes())


def main() -> None:
    """Degrade, restore, and write the sheet."""
    parser = argparse.ArgumentParser(prog="python -m training.sheet", description=__doc__)
    parser.add_argument("task", choices=sorted(KIND_OF_TASK))
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="file, as for `restore --weights`")
    args = parser.parse_args()
    clean = [middle(getattr(skimage.data, name)()) for name in SCENES]
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "input", Path(folder) / "output"
        inputs.mkdir()
        for index, (picture, seed) in enumerate(zip(clean, SCENES.values(), strict=True)):
            write(inputs / f"{index}.png", degraded(KIND_OF_TASK[args.task], picture, seed))
        command = [sys.executable, "-m", "restorecli", args.task, str(inputs), "-o", str(outputs)]
        command += ["--weights", str(args.weights)] if args.weights else []
        subprocess.run([*command, "-q"], check=True)
        columns = [
            [p.astype(np.float32) / np.float32(255) for p in load_photographs(place)]
            for place in (inputs, outputs)
        ]
    write(args.output, np.hstack([np.vstack(column) for column in (*columns, clean)]))


if __name__ == "__main__":
    main()
