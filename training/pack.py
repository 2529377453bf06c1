"""One file with every picture a training run needs: ``python -m training.pack -o FILE NAME=DIR …``.

A machine with a GPU may have no access to the folders, and little room. The pack is a safetensors
file of encoded pictures, ``NAME/file`` → uint8 bytes (WebP, or the original where that is smaller).
What is degraded (``…/input``) keeps its bytes, and pairs are never shrunk. ``--leave-out`` names
pictures that are kept for validation, one file name a line.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

Picture = NDArray[np.uint8]  # RGB (H, W, 3)
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def pictures_of(folder: Path) -> list[Path]:
    """The pictures of a folder, by name."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"No picture in {folder}: name a folder of .jpg, .png or .webp files.")
    return paths


def decoded(data: NDArray[np.uint8], name: str) -> Picture:
    """An encoded picture as RGB (H, W, 3)."""
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{name} is not a picture.")
    return np.ascontiguousarray(picture[..., ::-1], np.uint8)


def encoded(path: Path, quality: int, long_side_px: int) -> NDArray[np.uint8]:
    """The bytes of the file, or WebP of ``quality`` where smaller, shrunk to ``long_side_px``."""
    original = np.fromfile(path, np.uint8)
    picture = cv2.imdecode(original, cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{path} is not a picture.")
    shrink = long_side_px / max(picture.shape[:2]) if long_side_px else 1.0
    if shrink < 1:
        size = tuple(round(side * shrink) for side in picture.shape[1::-1])
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    smaller = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, quality])[1]
    return smaller if shrink < 1 or smaller.size < original.size else original


def write(
    folders: Iterable[tuple[str, Path]],
    output: Path,
    *,
    quality: int,
    long_side_px: int,
    left_out: frozenset[str] = frozenset(),
) -> int:
    """Write the pack; returns how many pictures it holds."""
    tensors: dict[str, Tensor] = {}
    for name, folder in folders:
        for path in pictures_of(folder):
            if path.name not in left_out:
                of_pair = name.endswith(("/input", "/target"))
                data = (
                    np.fromfile(path, np.uint8)
                    if name.endswith("/input")
                    else encoded(path, quality, 0 if of_pair else long_side_px)
                )
                tensors[f"{name}/{path.name}"] = torch.from_numpy(data)
    safetensors.torch.save_file(tensors, output)
    return len(tensors)


def read(pack: Path, name: str) -> Iterator[Picture]:
    """The pictures of one folder of a pack, by name: RGB uint8 (H, W, 3)."""
    with safetensors.safe_open(pack, framework="np") as file:
        for key in sorted(key for key in file.keys() if key.rpartition("/")[0] == name):  # noqa: SIM118
            yield decoded(file.get_tensor(key), f"{pack}: {key}")


def main() -> None:
    """Parse the command line and write the pack."""
    parser = argparse.ArgumentParser(prog="python -m training.pack", description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="NAME=DIR")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--quality", type=int, default=88, help="of WebP, 1 to 100")
    parser.add_argument("--long-side", type=int, default=0, help="shrink larger pictures, pixels")
    parser.add_argument("--leave-out", type=Path, help="file of names that are kept for validation")
    args = parser.parse_args()
    folders = [(name, Path(folder)) for name, _, folder in (f.partition("=") for f in args.folders)]
    left_out = frozenset(args.leave_out.read_text().split("\n")) if args.leave_out else frozenset()
    number = write(
        folders,
        args.output,
        quality=args.quality,
        long_side_px=args.long_side,
        left_out=left_out,
    )
    print(f"{number} pictures, {args.output.stat().st_size / 1e6:.1f} MB in {args.output}")


if __name__ == "__main__":
    main()
