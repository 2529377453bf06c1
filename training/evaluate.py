"""Score the networks: ``python -m training.evaluate --data DIR [TASK …]``.

Runs the ``restore`` command itself on whole pictures and prints, for each test set, what the
input scored and what the result scores. ``DIR`` holds ``derain/input``, ``derain/target`` and so
on; sets without real pairs are made from the clean pictures of ``denoise_gauss/target``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from restorecli.degradations.blur import defocus_blur
from restorecli.degradations.common import Image
from restorecli.degradations.snow import cover, snow_map
from training.data import load_photographs

CLEAN = "denoise_gauss/target"  # CBSD68


def white_noise(sigma: float) -> Callable[[Image, np.random.Generator], Image]:
    """Noise of ``sigma`` of 255 levels, clipped, as a file holds it."""
    return lambda clean, rng: clean + (sigma / 255 * rng.standard_normal(clean.shape)).astype("f4")


def snowfall(clean: Image, rng: np.random.Generator) -> Image:
    """Snow of the training's kind, drawn anew."""
    return cover(clean, snow_map((clean.shape[0], clean.shape[1]), rng), rng)


def nothing(clean: Image, rng: np.random.Generator) -> Image:
    """A photograph that is not degraded."""
    return clean


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSet:
    """Pictures and how they are scored; made from clean ones where ``degrade`` is given."""

    task: str
    name: str
    protocol: str
    folder: str = CLEAN
    degrade: Callable[[Image, np.random.Generator], Image] | None = None
    model: str = ""  # the default of the task


SETS = (
    TestSet(task="derain", name="Rain12", protocol="rain", folder="derain"),
    *(
        TestSet(
            task="denoise",
            name=f"CBSD68, σ {s}",
            protocol="denoise",
            degrade=white_noise(s),
            model="hint-denoise-compact",
        )
        for s in (15, 25, 50)
    ),
    TestSet(task="denoise", name="PolyU, 40 crops", protocol="denoise", folder="denoise"),
    TestSet(task="dehaze", name="SOTS indoor, 10 pairs", protocol="sots", folder="dehaze"),
    TestSet(task="lowlight", name="8 real pairs", protocol="lol", folder="lowlight"),
    TestSet(task="deblur", name="5 pairs of motion", protocol="rgb", folder="motion_deblur"),
    TestSet(task="desnow", name="CBSD68, synthetic snow", protocol="rgb", degrade=snowfall),
    TestSet(task="defocus", name="CBSD68, synthetic defocus", protocol="rgb", degrade=defocus_blur),
    TestSet(task="defocus", name="8 focus planes, Lytro", protocol="rgb", folder="defocus_pseudo"),
    *(
        TestSet(task=task, name="CBSD68, not degraded", protocol="rgb", degrade=nothing)
        for task in ("derain", "desnow", "denoise", "deblur", "defocus")
    ),
)


def prepare(chosen: TestSet, data: Path, scratch: Path) -> tuple[Path, Path]:
    """Folders of inputs and references; made ones are PNG, from one generator seeded with 0."""
    folder = data / chosen.folder
    if chosen.degrade is None:
        return folder / "input", folder / "target"
    inputs, targets = scratch / "input", scratch / "target"
    rng = np.random.default_rng(0)
    for index, levels in enumerate(load_photographs(folder)):
        clean = levels.astype(np.float32) / np.float32(255)
        degraded = np.clip(chosen.degrade(clean, rng), 0, 1)
        for place, image in ((inputs, degraded), (targets, clean)):
            place.mkdir(exist_ok=True)
            levels = np.round(image[..., ::-1] * 255).astype(np.uint8)
            cv2.imwrite(str(place / f"{index:03}.png"), levels)
    return inputs, targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """PSNR in dB and SSIM of each picture of a set: float64 (N, 2)."""

    metric: str  # the protocol's name for its PSNR
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    colour_shift: float  # mean of restored minus input, in levels of 255


def scores(chosen: TestSet, data: Path, options: list[str]) -> Scores:
    """Run ``restore`` with ``options`` on a set and read its report."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        inputs, targets = prepare(chosen, data, scratch)
        report, restored = scratch / "report.json", scratch / "restored"
        command = [chosen.task, inputs, "-o", restored, "--ref", targets, "-q"]
        command += ["--name", "{stem}.png"]  # as a JPEG a result would lose what its input lost
        command += ["--protocol", chosen.protocol, "--report", report, *options]
        if chosen.model and not {"--model", "--weights"} & set(options):
            command += ["--model", chosen.model]
        subprocess.run([sys.executable, "-m", "restorecli", *map(str, command)], check=True)
        rows = json.loads(report.read_text(encoding="utf-8"))["rows"]
        (psnr, ssim) = list(rows[0]["scores_after"])[:2]
        before, after = (
            np.array([[row[when][key] for key in (psnr, ssim)] for row in rows], np.float64)
            for when in ("scores_before", "scores_after")
        )
        shift = float(np.mean(list(colour_shifts(inputs, restored))))
        return Scores(metric=psnr, before=before, after=after, colour_shift=shift)


def line(chosen: TestSet, found: Scores) -> str:
    """One line of the table."""
    text = f"{chosen.task:9}{chosen.name:28}{found.metric:9}"
    if chosen.degrade is nothing:
        values = np.minimum(found.after[:, 0], 99)
        return (
            f"{text} mean {values.mean():6.2f} dB, lowest {values.min():6.2f}, "
            f"{int((values < 38).sum())} of {len(values)} below 38; "
            f"colour shift {found.colour_shift:+.2f} of 255"
        )
    (p0, s0), (p1, s1) = found.before.mean(axis=0), found.after.mean(axis=0)
    return f"{text} {p0:6.2f} → {p1:6.2f} dB ({p1 - p0:+.2f})   SSIM {s0:.4f} → {s1:.4f}"


def colour_shifts(inputs: Path, restored: Path) -> Iterator[float]:
    """Mean difference of each pair of pictures, in levels of 255."""
    pairs = zip(load_photographs(inputs), load_photographs(restored), strict=True)
    yield from (float(after.mean() - before.mean()) for before, after in pairs)


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="default: all")
    parser.add_argument("--data", type=Path, required=True, help="folder of the test sets")
    parser.add_argument("--model", help="id, as for `restore --model`")
    parser.add_argument("--weights", type=Path, help="file, as for `restore --weights`")
    parser.add_argument("--precision", default="fp32")
    args = parser.parse_args()
    options = ["--precision", args.precision]
    options += ["--model", args.model] if args.model else []
    options += ["--weights", str(args.weights)] if args.weights else []
    if unknown := set(args.tasks) - {s.task for s in SETS}:
        parser.error(f"there is no test set for {', '.join(sorted(unknown))}")
    for chosen in SETS:
        if not args.tasks or chosen.task in args.tasks:
            print(line(chosen, scores(chosen, args.data, options)), flush=True)


if __name__ == "__main__":
    main()
