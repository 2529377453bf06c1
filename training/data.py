"""Training batches from clean photographs and real pairs: seeded by step, never by history."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from restorecli.degradations.common import Image, Pair
from training import pack
from training.tasks import Task

Levels = NDArray[np.uint8]  # (H, W, C)
MAX_SHRINK = 3.0  # a crop may cover up to this many times its own side, then is shrunk
SCENE_SHARE = (0.6, 1.0)  # of the shorter side, for what is judged by the whole scene
TRIES = 3  # for a crop that suits the task


def add_sources(parser: ArgumentParser) -> None:
    """``--photos`` and ``--pairs``, as `load_photographs` and `load_pairs` take them."""
    parser.add_argument(
        "--photos", type=Path, nargs="+", required=True,
        help="folders of clean photographs, or FILE:NAME of a pack",
    )  # fmt: skip
    parser.add_argument(
        "--pairs", type=Path, nargs="*", default=[],
        help="real pairs: folders with input/ and target/, or FILE:NAME of a pack",
    )  # fmt: skip


def load_photographs(*sources: Path) -> list[Levels]:
    """All pictures of folders, or of ``FILE:NAME`` in a pack, by name: uint8 RGB (H, W, 3)."""
    pictures: list[Levels] = []
    for source in sources:
        path, _, name = str(source).partition(":")
        if name:
            pictures += pack.read(Path(path), name)
        else:
            pictures += [
                pack.decoded(np.fromfile(file, np.uint8), str(file))
                for file in pack.pictures_of(source)
            ]
    return pictures


def load_pairs(source: Path) -> list[Levels]:
    """Real pairs from ``input`` and ``target`` of ``source``, by sorted name: uint8 (H, W, 6)."""
    degraded, clean = (load_photographs(Path(f"{source}/{part}")) for part in ("input", "target"))
    if [p.shape for p in degraded] != [p.shape for p in clean]:
        raise SystemExit(f"The pictures of {source}/input and {source}/target must correspond.")
    return [np.concatenate(pair, axis=2) for pair in zip(degraded, clean, strict=True)]


def random_crop(
    photograph: Levels, patch_px: int, rng: np.random.Generator, *, scene: bool = False
) -> Image:
    """A square of (H, W, C), perhaps shrunk, flipped, turned: float32 (p, p, C) in [0, 1].

    ``scene``: most of the photograph, whatever its size.
    """
    height, width = photograph.shape[:2]
    shorter = min(height, width)
    if scene:
        side = max(1, int(shorter * rng.uniform(*SCENE_SHARE)))
    else:
        largest = min(MAX_SHRINK, shorter / patch_px)
        shrink = float(rng.uniform(1, largest)) if largest > 1 and rng.random() < 0.5 else 1.0
        side = min(int(patch_px * shrink), shorter)
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    crop: Levels = photograph[top : top + side, left : left + side]
    if side != patch_px:
        how = cv2.INTER_AREA if side > patch_px else cv2.INTER_CUBIC
        thirds = (crop[..., i : i + 3] for i in range(0, crop.shape[2], 3))
        size = (patch_px, patch_px)
        crop = np.dstack([cv2.resize(part, size, interpolation=how) for part in thirds])
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if not scene and rng.random() < 0.25:
        crop = np.rot90(crop, int(rng.integers(1, 4)))
    return crop.astype(np.float32) / np.float32(255)


def detail(crop: Image) -> float:
    """How much there is to restore in a crop: mean absolute Laplacian of its gray."""
    return float(np.abs(cv2.Laplacian(crop[::2, ::2].mean(axis=2), cv2.CV_32F)).mean())


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Pairs for any step: the same seed and step always give the same pixels."""

    def __init__(
        self,
        photographs: list[Levels],
        task: Task,
        seed: int,
        pairs: list[Levels] | None = None,
        *,
        patch_px: int = 128,
        size: int = 32,
    ) -> None:
        """Clean ``photographs`` (H, W, 3), and real ``pairs`` (H, W, 6): degraded, then clean.

        ``patch_px`` is the side of a sample, ``size`` how many make a batch.
        """
        self.photographs = photographs
        self.pairs = pairs or []
        self.task = task
        self.degrade = task.degradation()
        self.pair_share = task.pair_share if pairs else 0.0
        self.seed, self.patch_px, self.size = seed, patch_px, size
        areas = np.array([p.shape[0] * p.shape[1] for p in photographs], np.float64)
        self.chances = np.sqrt(areas) / np.sqrt(areas).sum()  # large pictures more often

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Degraded and clean batch of one step: uint8 (size, 3, p, p) each."""
        pairs = [self.pair(step, i) for i in range(self.size)]
        degraded, clean = (np.stack(part) for part in zip(*pairs, strict=True))
        return torch.from_numpy(degraded), torch.from_numpy(clean)

    def pair(self, step: int, index: int) -> tuple[Levels, Levels]:
        """Degraded and clean sample: uint8 (3, p, p) each."""
        rng = np.random.default_rng((self.seed, step, index))
        if self.pair_share and rng.random() < self.pair_share:
            pair = self.pairs[int(rng.integers(len(self.pairs)))]
            both = random_crop(pair, self.patch_px, rng, scene=self.task.scene)
            degraded, clean = both[..., :3], both[..., 3:]
        else:
            degraded, clean = self.made(rng)
        levels = (np.round(np.clip(part, 0, 1) * 255) for part in (degraded, clean))
        x, y = (np.ascontiguousarray(part.astype(np.uint8).transpose(2, 0, 1)) for part in levels)
        return x, y

    def made(self, rng: np.random.Generator) -> Pair:
        """A sample from a photograph: float32 (p, p, 3) each."""
        margin = self.task.margin_px
        clean = self.suitable_crop(self.patch_px + 2 * margin, rng)
        degraded = clean
        if rng.random() < self.task.clean_share:
            if self.task.spared is not None:
                degraded = clean = self.task.spared(clean, rng)
        else:
            result = self.degrade(clean, rng)
            degraded, clean = result if isinstance(result, tuple) else (result, clean)
        inner = slice(margin, margin + self.patch_px)
        return degraded[inner, inner], clean[inner, inner]

    def suitable_crop(self, side_px: int, rng: np.random.Generator) -> Image:
        """A crop that the task can learn from: one with detail, or one that passes its test."""

        def crop() -> Image:
            chosen = self.photographs[int(rng.choice(len(self.photographs), p=self.chances))]
            return random_crop(chosen, side_px, rng, scene=self.task.scene)

        found = crop()
        if self.task.unsuitable is not None:
            for _ in range(TRIES):
                if not self.task.unsuitable(found):
                    break
                found = crop()
        elif rng.random() < 0.5:
            other = crop()
            found = other if detail(other) > detail(found) else found
        return found

    def ahead(self, steps: range, workers: int, *, pin: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of ``steps`` in order, made by ``workers`` processes while others train."""
        loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            self,
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            pin_memory=pin,
            worker_init_fn=_one_thread,
        )
        yield from loader


def _one_thread(worker: int) -> None:
    """A worker process has one core."""
    cv2.setNumThreads(0)
