"""The pictures of README: ``python -m training.gallery --real DIR -o docs/pictures [TASK …]``.

For each task one picture with labelled halves: before, and what the ``restore`` command makes of it
today. Photographs of ``DIR`` really are dark or hazy (its ``manifest.csv`` has their credits), and
they are restored whole and shown smaller. The others are distributed by scikit-image; they were
spoiled as by ``restore degrade`` and are shown pixel by pixel.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFont

from restorecli.degradations.kinds import degraded

WIDTH_PX, HEIGHT_PX, LABEL_PX = 440, 293, 26
INK, PAPER = (30, 30, 30), (255, 255, 255)


class Shown(NamedTuple):
    """Which photograph shows a task."""

    photograph: str  # a file of the folder, or a name in `skimage.data`
    before: str  # what the left half is called
    kind: str = ""  # of spoiling; none: the photograph is as it was taken
    seed: int = 0
    severity: float = 1.0


SHOWN = {  # the best first; motion blur stays too visible to be shown
    "derain": Shown("rocket", "rain (made)", "rain", seed=16),
    "lowlight": Shown("umate_joe-were-unsplash-hippo.jpg", "as taken"),
    "denoise": Shown("chelsea", "noise (made)", "noise", seed=5, severity=1.3),
    "desnow": Shown("coffee", "snow (made)", "snow", seed=3),
    "defocus": Shown("chelsea", "out of focus (made)", "defocus", seed=4),
    "dehaze": Shown("budgie_tea-gardens.jpg", "as taken"),
}


def before(shown: Shown, real: Path) -> Image.Image:
    """The picture to restore."""
    if not shown.kind:
        return Image.open(real / shown.photograph).convert("RGB")
    clean = getattr(skimage.data, shown.photograph)()
    top, left = (
        (have - want) // 2 for have, want in zip(clean.shape, (HEIGHT_PX, WIDTH_PX), strict=False)
    )
    part = clean[top : top + HEIGHT_PX, left : left + WIDTH_PX].astype(np.float32) / np.float32(255)
    made = degraded(shown.kind, part, shown.seed, shown.severity)
    return Image.fromarray(np.rint(made * 255).astype(np.uint8))


def restored(task: str, picture: Image.Image) -> Image.Image:
    """What the command makes of it."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "before.png", Path(folder) / "after.png"
        picture.save(source)
        command = [sys.executable, "-m", "restorecli", task, str(source), "-o", str(target), "-q"]
        subprocess.run(command, check=True)
        return Image.open(target).convert("RGB")


def halves(left: Image.Image, right: Image.Image, labels: tuple[str, str]) -> Image.Image:
    """Two pictures side by side, each under its label."""
    height = round(WIDTH_PX * left.height / left.width)
    sheet = Image.new("RGB", (2 * WIDTH_PX + 4, height + LABEL_PX), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for at, (picture, label) in enumerate(zip((left, right), labels, strict=True)):
        small = picture.resize((WIDTH_PX, height), Image.Resampling.LANCZOS)
        sheet.paste(small, (at * (WIDTH_PX + 4), LABEL_PX))
        draw.text((at * (WIDTH_PX + 4) + 2, 3), label, fill=INK, font=font)
    return sheet


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(prog="python -m training.gallery", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="only these")
    parser.add_argument("--real", type=Path, required=True, help="folder of real photographs")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    args = parser.parse_args()
    if unknown := sorted(set(args.tasks) - set(SHOWN)):
        parser.error(f"{unknown[0]} is not shown; known: {', '.join(SHOWN)}")
    for task in args.tasks or SHOWN:
        shown = SHOWN[task]
        picture = before(shown, args.real)
        sheet = halves(picture, restored(task, picture), (shown.before, f"restore {task}"))
        sheet.save(args.output / f"before-after-{task}.jpg", quality=88)
        print(f"{args.output / f'before-after-{task}.jpg'}: {shown.photograph}")


if __name__ == "__main__":
    main()
