"""Restore a photograph from Python: ``python examples/python_api.py IN OUT``."""

import sys

import numpy as np
from PIL import Image

import restorecli


def main() -> None:
    """Load a network once, then restore as many pictures as there are."""
    source, target = sys.argv[1:]
    network = restorecli.load("hint-derain-packed", device="auto")
    with Image.open(source) as picture:
        degraded = np.asarray(picture.convert("RGB"))  # (H, W, 3), 0…255
    Image.fromarray(restorecli.restore_image(degraded, network)).save(target)


if __name__ == "__main__":
    main()
