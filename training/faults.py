"""What `restore check` knows: made of photographs spoiled on purpose, fitted, and measured.

``python -m training.faults sample --photos DIR… --leave-out training/held_out.txt -o rows.npz``
measures good and spoiled crops; the same seed always gives the same ones. ``python -m
training.faults fit rows*.npz`` writes the numbers that ship. ``python -m training.faults table
--photos DIR --names training/held_out.txt`` prints what is said of pictures that were kept out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from restorecli.degradations import blur, common, darkness, haze, kinds, noise, rain, snow
from restorecli.scoring.faults import measures, verdict

Image = common.Image
Levels = NDArray[np.uint8]  # (H, W, 3) RGB
Values = NDArray[np.float64]
FAULTS = verdict.FAULTS
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
MAPS = 24  # of rain and of snow: drawing one takes a hundred times what a sample takes
CLEAN_EVERY = 3  # every third sample is good
LARGEST_WHOLE = 400_000  # pixels: larger photographs are spoiled in parts
# PSNR in dB against what the photograph was: below the first a fault is there, above the second it
# is not; in between nobody can say, and nothing is learnt.
BOUNDS = {
    "rain": (33.0, 41.0), "snow": (31.0, 40.0), "haze": (23.0, 36.0), "noise": (34.0, 42.0),
    "motion": (32.0, 40.0), "defocus": (32.0, 40.0),
}  # fmt: skip
DARK_RATIO, DARK_LUMA = (0.45, 0.8), 0.3  # of the mean luma; and the brightest that is dark


class Sample(NamedTuple):
    """One picture, and which faults it has: 1, 0, or NaN where nobody can say."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.float32]
    photograph: int


class Maker:
    """Samples by number, from clean photographs."""

    def __init__(self, photographs: Sequence[Path], seed: int) -> None:
        self.photographs, self.seed = photographs, seed
        self.rain, self.snow = rain.Rain(seed, maps=MAPS), snow.Snow(seed, maps=MAPS)

    def __call__(self, index: int) -> Sample:
        """The sample of a number."""
        rng = np.random.default_rng((self.seed, index))
        is_clean = index % CLEAN_EVERY == 0
        number = int(rng.integers(len(self.photographs)))
        photograph = read(self.photographs[number])
        whole = rng.random() < (0.6 if is_clean else 0.3)
        if whole and (is_clean or photograph.size < 3 * LARGEST_WHOLE):
            clean = photograph.astype(np.float32) / np.float32(255)
        else:
            clean = crop(photograph, rng)
        clean = varied(clean, rng)
        labels = np.zeros(len(FAULTS), np.float32)
        if is_clean:
            return Sample(levels(nearly_clean(clean, rng)), labels, number)
        kind = FAULTS[int(rng.integers(len(FAULTS)))]
        spoiled = self.spoiled(kind, clean, rng)
        label(labels, kind, clean, spoiled)
        if kind not in {"noise", "dark"} and rng.random() < 0.15:
            noisy = np.clip(noise.any_noise(spoiled, rng), 0, 1)
            label(labels, "noise", spoiled, noisy)
            spoiled = noisy
        if rng.random() < 0.45:
            spoiled = common.jpeg(spoiled, int(rng.integers(70, 98)), rng)
        return Sample(levels(spoiled), labels, number)

    def spoiled(self, kind: str, clean: Image, rng: np.random.Generator) -> Image:
        """With one fault, by a generator of training or by that of ``restore degrade``."""
        if rng.random() < 0.4 or max(clean.shape) > rain.MAP_PX:
            severity = float(rng.uniform(0.6, 1.4))
            return np.clip(kinds.KINDS[kind].spoil(clean, rng, severity), 0, 1)
        makers: dict[str, list[Callable[[Image, np.random.Generator], Image]]] = {
            "rain": [self.rain],
            "snow": [self.snow],
            "haze": [haze.haze, lambda picture, rng: haze.haze_and_sky(picture, rng)[0]],
            "noise": [noise.any_noise],
            "dark": [darkness.darkness, lambda picture, rng: darkness.night(picture, rng)[0]],
            "motion": [blur.any_motion],
            "defocus": [blur.any_defocus],
        }
        made = makers[kind][int(rng.integers(len(makers[kind])))](clean, rng)
        return np.clip(made, 0, 1).astype(np.float32, copy=False)


def label(labels: NDArray[np.float32], kind: str, before: Image, after: Image) -> None:
    """Write down that ``after`` has a fault, if it can be seen; and what cannot be told then."""
    at = FAULTS.index(kind)
    if kind == "dark":
        ratio = float(after.mean()) / max(float(before.mean()), 1e-3)
        low, high = DARK_RATIO
        is_dark = ratio < low and float(after.mean()) < DARK_LUMA
        labels[at] = 1 if is_dark else 0 if ratio > high else np.nan
        labels[FAULTS.index("noise")] = np.nan
        return
    db = -10 * np.log10(max(float(np.mean((after - before) ** 2)), 1e-9))
    low, high = BOUNDS[kind]
    labels[at] = 1 if db < low else 0 if db > high else np.nan
    if kind == "snow":  # its veil is haze
        labels[FAULTS.index("haze")] = np.nan


def crop(photograph: Levels, rng: np.random.Generator) -> Image:
    """A part of a photograph, perhaps shrunk: (h, w, 3) float32 in [0, 1], at most 400 px wide."""
    height, width = photograph.shape[:2]
    shrink = float(rng.uniform(1, 2.5)) if min(height, width) > 500 and rng.random() < 0.5 else 1.0
    sides = [min(int(rng.integers(240, 401) * shrink), side) for side in (height, width)]
    top, left = (
        int(rng.integers(0, most - side + 1))
        for most, side in zip((height, width), sides, strict=True)
    )
    part = photograph[top : top + sides[0], left : left + sides[1]]
    if shrink > 1:
        size = (min(400, int(sides[1] / shrink)), min(400, int(sides[0] / shrink)))
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    return part.astype(np.float32) / np.float32(255)


def varied(clean: Image, rng: np.random.Generator) -> Image:
    """As another camera or taste might have made it: tone, colour, sharpness."""
    if rng.random() < 0.4:
        clean = np.power(clean, np.float32(rng.uniform(0.75, 1.35))).astype(np.float32)
    if rng.random() < 0.3:
        gray = (clean @ noise.LUMA)[..., None]
        amount = 0.0 if rng.random() < 0.2 else float(rng.uniform(0.4, 1.3))
        clean = (gray + np.float32(amount) * (clean - gray)).astype(np.float32)
    if rng.random() < 0.3:
        soft = cv2.GaussianBlur(clean, (0, 0), float(rng.uniform(0.6, 1.5)))
        clean = clean + np.float32(rng.uniform(-0.4, 0.6)) * (clean - soft)
    return np.clip(clean, 0, 1).astype(np.float32)


def nearly_clean(clean: Image, rng: np.random.Generator) -> Image:
    """With what nobody would mend: the least noise, softness of an enlargement, JPEG."""
    if rng.random() < 0.25:  # enlarged, perhaps unevenly
        size = tuple(round(side * float(rng.uniform(1.05, 1.5))) for side in clean.shape[1::-1])
        clean = cv2.resize(clean, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    if rng.random() < 0.4:
        clean = clean + np.float32(rng.uniform(0, 2.5) / 255) * rng.standard_normal(
            clean.shape, np.float32
        )
    clean = np.clip(clean, 0, 1).astype(np.float32)
    return common.jpeg(clean, int(rng.integers(65, 99)), rng) if rng.random() < 0.5 else clean


def levels(picture: Image) -> NDArray[np.uint8]:
    """[0, 1] → 8 bits."""
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def sample(args: argparse.Namespace) -> None:
    """Measure samples and save them with their labels."""
    left_out = set(args.leave_out.read_text(encoding="utf-8").split())
    photographs = photographs_of(args.photos, lambda name: name not in left_out)
    maker = Maker(photographs, args.seed)
    rows, labels, groups = [], [], []
    started = time.monotonic()
    for index in range(args.first, args.first + args.count):
        made = maker(index)
        rows.append(measures.as_row(measures.measure(made.pixels)))
        labels.append(made.labels)
        groups.append(made.photograph)
        if args.minutes and time.monotonic() - started > 60 * args.minutes:
            break
    np.savez_compressed(args.output, rows=np.array(rows, np.float32), labels=labels, groups=groups)
    print(f"{len(rows)} samples of {len(photographs)} photographs; the next one is {index + 1}")


def photographs_of(folders: Sequence[Path], wanted: Callable[[str], bool]) -> list[Path]:
    """The photographs in ``folders`` whose file names are ``wanted``."""
    files = [file for folder in folders for file in sorted(folder.iterdir())]
    return [f for f in files if f.suffix.lower() in SUFFIXES and wanted(f.name)]


def read(path: Path) -> Levels:
    """Its pixels: (H, W, 3) RGB."""
    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{path} is not a picture.")
    return np.ascontiguousarray(picture[..., ::-1], np.uint8)


KEPT, HIDDEN, FOLDS, STEPS = 72, 8, 5, 800
TAKEN = 0.002  # share of good photographs, of each fault, that may be taken for spoiled
LEAST = 0.5  # odds (as a logarithm) that are needed in any case


class Rows(NamedTuple):
    """Samples as numbers."""

    x: Values  # (N, measures)
    labels: NDArray[np.float32]  # (N, faults)
    groups: NDArray[np.int64]  # (N,), which photograph

    def of(self, chosen: NDArray[np.bool_]) -> Rows:
        """Some of them."""
        return Rows(self.x[chosen], self.labels[chosen], self.groups[chosen])


def load(files: Sequence[Path]) -> Rows:
    """What `sample` saved."""
    parts = [np.load(file) for file in files]
    x, labels, groups = (
        np.concatenate([p[name] for p in parts]) for name in ("rows", "labels", "groups")
    )
    return Rows(x.astype(np.float64), labels, groups)


def fit(args: argparse.Namespace) -> None:
    """Choose measures and limits by leaving photographs out; write the network of all of them."""
    rows = load(args.rows)
    names = np.array(measures.names())
    strength = np.abs(fitted(rows, np.arange(len(names)), args.seed)["first"]).sum(axis=1)
    kept = np.sort(np.argsort(-strength)[:KEPT])
    logits = np.zeros(rows.labels.shape)
    for fold in range(FOLDS):
        inside = rows.groups % FOLDS == fold
        logits[inside] = applied(fitted(rows.of(~inside), kept, args.seed), rows.x[inside][:, kept])
    is_clean = (rows.labels == 0).all(axis=1)
    limits = np.maximum(np.quantile(logits[is_clean], 1 - TAKEN, axis=0), LEAST)
    doubts = limits / 2  # as far from even odds as from being named
    report(rows, logits, limits, doubts)
    final = fitted(rows, kept, args.seed)
    bounds = {
        name: {fault: round(chance(value), 4) for fault, value in zip(FAULTS, values, strict=True)}
        for name, values in (("limits", limits), ("doubts", doubts))
    }
    numbers = {name: short(value) for name, value in final.items()}
    data = {"measures": names[kept].tolist(), **bounds, **numbers}
    args.output.write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{sum(np.size(v) for v in final.values())} numbers in {args.output}")


def report(rows: Rows, logits: Values, limits: Values, doubts: Values) -> None:
    """What is found in photographs that were left out of the fit."""
    is_clean = (rows.labels == 0).all(axis=1)
    taken, doubted = (
        (logits[is_clean] >= bounds).any(axis=1).mean() for bounds in (limits, doubts)
    )
    print(f"{is_clean.sum()} good ones: {taken:.1%} taken for spoiled, {doubted:.1%} doubted")
    for at, name in enumerate(FAULTS):
        there = rows.labels[:, at] == 1
        found = logits[there] >= limits
        first = (logits[there] - limits).argmax(axis=1) == at
        print(
            f"{name:8} {there.sum():5}: found in {found[:, at].mean():6.1%}, named first in "
            f"{(found[:, at] & first).mean():6.1%}; limit {chance(limits[at]):.3f}"
        )


def chance(logit: float) -> float:
    """Odds to chance."""
    return float(1 / (1 + np.exp(-logit)))


def short(values: Values) -> list[object]:
    """Numbers with four digits."""
    flat = [float(f"{value:.4g}") for value in values.ravel()]
    return np.array(flat).reshape(values.shape).tolist()


def fitted(rows: Rows, kept: NDArray[np.int64], seed: int) -> dict[str, Values]:
    """The network that tells labels from the ``kept`` measures best."""
    x = rows.x[:, kept]
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    z = torch.tensor(
        np.clip((x - mean) / scale, -verdict.FARTHEST, verdict.FARTHEST), dtype=torch.float32
    )
    known = torch.tensor(~np.isnan(rows.labels))
    y = torch.tensor(np.nan_to_num(rows.labels))
    torch.manual_seed(seed)
    first, second = torch.nn.Linear(len(kept), HIDDEN), torch.nn.Linear(HIDDEN, len(FAULTS))
    layers = torch.nn.Sequential(first, torch.nn.Tanh(), second)
    optimiser = torch.optim.AdamW(layers.parameters(), lr=8e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        some = torch.randint(len(z), (512,), generator=generator)
        noisy = z[some] + 0.1 * torch.randn(len(some), z.shape[1], generator=generator)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            layers(noisy), y[some], reduction="none"
        )
        loss = (loss * known[some]).sum() / known[some].sum()
        loss = loss + 2e-4 * first.weight.abs().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return {
        "mean": mean,
        "scale": scale,
        "first": first.weight.detach().double().numpy().T,
        "first_bias": first.bias.detach().double().numpy(),
        "second": second.weight.detach().double().numpy().T,
        "second_bias": second.bias.detach().double().numpy(),
    }


def applied(numbers: dict[str, Values], x: Values) -> Values:
    """Logits (N, faults) of measures (N, kept)."""
    z = np.clip((x - numbers["mean"]) / numbers["scale"], -verdict.FARTHEST, verdict.FARTHEST)
    return (
        np.tanh(z @ numbers["first"] + numbers["first_bias"]) @ numbers["second"]
        + numbers["second_bias"]
    )


COLUMNS = ("nothing", "unsure", *FAULTS)
SEED = 2024  # of the pictures of the table


def told(pixels: Levels) -> str:
    """What `restore check` says of a picture."""
    found = verdict.judge(pixels)
    return found.fault or ("unsure" if found.perhaps else "nothing")


def table(args: argparse.Namespace) -> None:
    """Print what is said of good photographs, of the same spoiled in each way, and of folders."""
    names = set(args.names.read_text(encoding="utf-8").split())
    kept_out = photographs_of(args.photos, lambda name: name in names)
    print(f"| what it is | pictures | {' | '.join(COLUMNS)} |")
    print("|---" * (2 + len(COLUMNS)) + "|")
    print_row("good, kept out", [told(read(path)) for path in kept_out])
    for kind in FAULTS:
        verdicts = []
        for number, path in enumerate(kept_out):
            clean = smaller(read(path), args.long_side).astype(np.float32) / np.float32(255)
            verdicts.append(told(levels(kinds.degraded(kind, clean, SEED + number))))
        print_row(f"{kind}, made of them", verdicts)
    for folder in args.folder or []:
        name, _, place = folder.partition("=")
        paths = photographs_of([Path(place)], lambda _: True)
        print_row(name, [told(read(path)) for path in paths])


def print_row(name: str, verdicts: Sequence[str]) -> None:
    """How often each verdict was given."""
    counts = [str(verdicts.count(column) or "") for column in COLUMNS]
    print(f"| {name} | {len(verdicts)} | {' | '.join(counts)} |", flush=True)


def smaller(picture: Levels, long_side_px: int) -> Levels:
    """No longer than ``long_side_px``."""
    shrink = long_side_px / max(picture.shape[:2])
    if shrink >= 1:
        return picture
    size = tuple(round(side * shrink) for side in picture.shape[1::-1])
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make samples, fit, or print the table."""
    parser = argparse.ArgumentParser(prog="python -m training.faults", description=__doc__)
    ways = parser.add_subparsers(dest="way", required=True)
    way = ways.add_parser("sample")
    way.add_argument("--photos", type=Path, nargs="+", required=True, help="folders of good ones")
    way.add_argument("--leave-out", type=Path, required=True, help="list of file names")
    way.add_argument("--seed", type=int, default=0)
    way.add_argument("--first", type=int, default=0)
    way.add_argument("--count", type=int, default=6000)
    way.add_argument("--minutes", type=float, default=0, help="at most")
    way.add_argument("-o", "--output", type=Path, required=True)
    way.set_defaults(run=sample)
    way = ways.add_parser("fit")
    way.add_argument("rows", type=Path, nargs="+")
    way.add_argument("--seed", type=int, default=0)
    way.add_argument(
        "-o", "--output", type=Path, default=Path("restorecli/scoring/faults/faults.json")
    )
    way.set_defaults(run=fit)
    way = ways.add_parser("table")
    way.add_argument("--photos", type=Path, nargs="+", required=True)
    way.add_argument("--names", type=Path, required=True, help="those that were kept out")
    way.add_argument("--long-side", type=int, default=640, help="pixels of what is spoiled")
    way.add_argument("--folder", action="append", metavar="NAME=DIR", help="a row of its own")
    way.set_defaults(run=table)
    args = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    args.run(args)


if __name__ == "__main__":
    main()
