"""Make the example pictures: synthetic rain on photographs that scikit-image distributes.

    python -m examples.make_examples

The same seed always gives the same pictures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from restorecli.degradations.rain import streak_map

FOLDER = Path(__file__).parent
RAIN_SEEDS = {"rocket": 16, "chelsea": 17}


def main() -> None:
    """Write a rainy and a clean picture of each scene."""
    for name, seed in RAIN_SEEDS.items():
        clean = getattr(skimage.data, name)()
        streaks = streak_map(clean.shape[:2], np.random.default_rng(seed))[..., None]
        rainy = np.clip(clean / np.float32(255) + streaks, 0, 1)
        Image.fromarray(np.round(rainy * 255).astype(np.uint8)).save(FOLDER / f"{name}-rain.png")


if __name__ == "__main__":
    main()
