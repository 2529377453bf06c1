"""The picture of docs/spectral.md: ``python -m training.spectral.figure PHOTO CUBE -o FILE``.

Left the photograph with some pixels marked, right their spectra in the cube.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from restorecli.images import read_photo
from restorecli.spectral.reading import read_cube

COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red")


def main() -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(prog="python -m training.spectral.figure", description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("cube", type=Path)
    parser.add_argument("--at", nargs="+", default=["0.2,0.5"], help="row,column from 0 to 1")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    photo, cube = read_photo(args.photo), read_cube(args.cube)
    height, width = photo.size
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.imshow(photo.pixels)
    left.set_axis_off()
    for place, colour in zip(args.at, COLOURS, strict=False):
        row, column = (float(part) for part in place.split(","))
        y, x = int(row * (height - 1)), int(column * (width - 1))
        left.plot(x, y, "o", mfc=colour, mec="white", ms=10)
        right.plot(cube.wavelengths_nm, np.asarray(cube.bands[:, y, x]), color=colour, lw=2)
    right.set_xlabel("wavelength, nm")
    right.set_ylabel("relative reflectance")
    right.set_ylim(0, 1)
    right.grid(alpha=0.3)
    figure.savefig(args.output, dpi=80, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
