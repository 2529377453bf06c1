"""How far is a preview from the whole result? ``python -m benchmarks.preview PICTURE…``.

A preview sees one megapixel of a larger picture. To make the rest as different as can be, four
pictures are put together to one. It is restored whole, and a preview is made of the middle of the
first and of the last one. Printed are the mean and the largest difference of what is shown, how
much the network changes there, and the seconds that both took.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.common import machine
from restorecli.engine.box import CROP_PX, Box
from restorecli.engine.chain import prepare_chain
from restorecli.engine.detail import restored_detail
from restorecli.engine.settings import EngineSettings
from restorecli.images import Photo, read_photo
from restorecli.weights import choose_model


def together(paths: list[Path]) -> Photo:
    """Four pictures as one, two above two, cut to the smallest."""
    pixels = [read_photo(path).pixels for path in paths]
    height, width = (min(part.shape[axis] for part in pixels) for axis in (0, 1))
    parts = [part[:height, :width] for part in pixels]
    return Photo(pixels=np.vstack([np.hstack(parts[:2]), np.hstack(parts[2:])]))


def main() -> None:
    """Print a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs=4, type=Path)
    parser.add_argument("--task", default="derain")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    settings = EngineSettings(
        model=choose_model(options.task), device=options.device, precision="fp32"
    )
    chain = prepare_chain([settings])
    photo = together(options.pictures)
    height, width = photo.size
    begun = time.perf_counter()
    whole, plan = chain.restore(photo)
    whole_s = time.perf_counter() - begun
    off, changed, largest, seconds = [], [], 0, []
    for share in (0.25, 0.75):
        place = (int(share * width) - CROP_PX // 2, int(share * height) - CROP_PX // 2)
        box = Box(*place, CROP_PX, CROP_PX)
        begun = time.perf_counter()
        before, after, _ = restored_detail(
            chain, photo, box, lambda share: None, photo.pixels.dtype
        )
        seconds.append(time.perf_counter() - begun)
        expected = box.of(whole.pixels).astype(int)
        difference = np.abs(after.pixels - expected)
        off.append(difference.mean())
        largest = max(largest, int(difference.max()))
        changed.append(np.abs(before.pixels - expected).mean())
    print(
        f"{options.task} ({settings.model.id}), {width}x{height}, "
        f"{'whole' if plan.exact else 'tiles'}: preview off by {np.mean(off):.3f} of 255 on "
        f"average, at most {largest}; the network changes {np.mean(changed):.2f}; "
        f"{np.median(seconds):.1f} s for {whole_s:.1f} s; {machine()}"
    )


if __name__ == "__main__":
    main()
