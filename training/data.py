"""Training batches from a folder of clean photographs: seeded by step, never by history."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.tasks import Task

READ_AHEAD = 4  # batches
MAX_SHRINK = 3.0  # a crop may cover up to this many times its own side, then is shrunk


def load_photographs(folder: Path) -> list[NDArray[np.uint8]]:
    """All pictures of ``folder`` by name: uint8 RGB (H, W, 3)."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".png"})
    if not paths:
        raise SystemExit(f"No .jpg or .png in {folder}: name a folder of clean photographs.")
    pictures = []
    for path in paths:
        decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            raise SystemExit(f"{path} is not a picture.")
        pictures.append(np.ascontiguousarray(decoded[..., ::-1], np.uint8))
    return pictures


def load_pairs(folder: Path) -> list[NDArray[np.uint8]]:
    """Real pairs from ``input`` and ``target`` of ``folder``, by sorted name: uint8 (H, W, 6)."""
    degraded, clean = (load_photographs(folder / part) for part in ("input", "target"))
    if [p.shape for p in degraded] != [p.shape for p in clean]:
        raise SystemExit(f"The pictures of {folder}/input and {folder}/target must correspond.")
    return [np.concatenate(pair, axis=2) for pair in zip(degraded, clean, strict=True)]


def random_crop(
    photograph: NDArray[np.uint8], patch_px: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """A square of (H, W, C), perhaps shrunk, flipped, turned: float32 (p, p, C) in [0, 1]."""
    height, width = photograph.shape[:2]
    largest = min(MAX_SHRINK, min(height, width) / patch_px)
    shrink = float(rng.uniform(1, largest)) if largest > 1 and rng.random() < 0.5 else 1.0
    side = min(int(patch_px * shrink), height, width)
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    crop: NDArray[Any] = photograph[top : top + side, left : left + side]
    if side != patch_px:
        size = (patch_px, patch_px)
        thirds = (crop[..., i : i + 3] for i in range(0, crop.shape[2], 3))
        crop = np.dstack([cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in thirds])
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if rng.random() < 0.25:
        crop = np.rot90(crop, int(rng.integers(1, 4)))
    return crop.astype(np.float32) / np.float32(255)


class Batches:
    """Pairs for any step: the same seed and step always give the same pixels."""

    def __init__(
        self,
        photographs: list[NDArray[np.uint8]],
        task: Task,
        seed: int,
        pairs: list[NDArray[np.uint8]] | None = None,
    ) -> None:
        """Clean ``photographs`` (H, W, 3), and real ``pairs`` (H, W, 6): degraded, then clean."""
        self.photographs = photographs
        self.pairs = pairs or []
        self.degrade = task.degradation()
        self.clean_share = task.clean_share
        self.margin_px = task.margin_px
        self.pair_share = task.pair_share if pairs else 0.0
        self.seed = seed
        areas = np.array([p.shape[0] * p.shape[1] for p in photographs], np.float64)
        self.chances = np.sqrt(areas) / np.sqrt(areas).sum()  # large pictures more often

    def pair(self, step: int, index: int, patch_px: int) -> tuple[Tensor, Tensor]:
        """Degraded and clean sample: float32 (3, p, p) each, [0, 1], degraded in 8-bit steps."""
        rng = np.random.default_rng((self.seed, step, index))
        if self.pair_share and rng.random() < self.pair_share:
            both = random_crop(self.pairs[int(rng.integers(len(self.pairs)))], patch_px, rng)
            degraded, clean = both[..., :3], both[..., 3:]
        else:
            photograph = self.photographs[int(rng.choice(len(self.photographs), p=self.chances))]
            clean = random_crop(photograph, patch_px + 2 * self.margin_px, rng)
            degraded = clean
            if not (self.clean_share and rng.random() < self.clean_share):
                degraded = np.round(self.degrade(clean, rng) * 255) / np.float32(255)
            inner = slice(self.margin_px, self.margin_px + patch_px)
            degraded, clean = degraded[inner, inner], clean[inner, inner]
        x, y = (np.ascontiguousarray(a.transpose(2, 0, 1), np.float32) for a in (degraded, clean))
        return torch.from_numpy(x), torch.from_numpy(y)

    def batch(self, step: int, size: int, patch_px: int) -> tuple[Tensor, Tensor]:
        """Degraded and clean batch of one step: float32 (size, 3, p, p) each."""
        pairs = [self.pair(step, i, patch_px) for i in range(size)]
        return torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])

    def ahead(self, plan: Iterator[tuple[int, int, int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches for each (step, size, patch) of ``plan``, made in a thread while others train."""
        ready: queue.Queue[tuple[Tensor, Tensor] | BaseException | None] = queue.Queue(READ_AHEAD)

        def produce() -> None:
            try:
                for step, size, patch_px in plan:
                    ready.put(self.batch(step, size, patch_px))
                ready.put(None)
            except BaseException as error:  # handed to the training loop, which raises it
                ready.put(error)

        threading.Thread(target=produce, daemon=True).start()
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
