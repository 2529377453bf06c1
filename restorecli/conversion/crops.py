"""Clean and degraded crops of photographs: what a conversion is calibrated and scored with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restorecli.degradations.kinds import KINDS
from restorecli.errors import InputError
from restorecli.images import identify, read_photo

CROP_PX = 128
CALIBRATION_CROPS = 32
HELD_OUT_CROPS = 8
SEED = 0
SIGMA = 25 / 255  # of white noise, as published networks for it are tested

Image = NDArray[np.uint8]  # RGB (H, W, 3)


def white_noise(
    clean: NDArray[np.float32], rng: np.random.Generator, severity: float
) -> NDArray[np.float32]:
    """Gaussian noise of σ 25 times ``severity``: RGB (H, W, 3), not clipped."""
    return clean + rng.normal(0, severity * SIGMA, clean.shape).astype(np.float32)


DEGRADE = {kind.task: kind.spoil for kind in KINDS.values()} | {"denoise": white_noise}


class Crops:
    """Clean and degraded crops: some to calibrate on, others, of other photographs, to score on."""

    def __init__(self, photographs: Sequence[Image], task: str, channels: int) -> None:
        held_out = max(1, len(photographs) // 4)
        self.known, self.unseen = photographs[:-held_out], photographs[-held_out:]
        self.degrade = DEGRADE[task]
        self.channels = channels

    def calibration(self) -> Iterator[Tensor]:
        """Degraded crops, the same on every call: (1, C, H, W) in [0, 1]."""
        pairs = self._drawn(self.known, SEED)
        return (degraded for degraded, _ in itertools.islice(pairs, CALIBRATION_CROPS))

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Degraded and clean crops that calibration never sees."""
        return itertools.islice(self._drawn(self.unseen, SEED + 1), HELD_OUT_CROPS)

    def endless(self) -> Iterator[Tensor]:
        """Degraded crops of the photographs for calibration, without end."""
        return (degraded for degraded, _ in self._drawn(self.known, SEED + 2))

    def _drawn(self, photographs: Sequence[Image], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng(seed)
        for photograph in itertools.cycle(photographs):
            top, left = (rng.integers(0, max(1, n - CROP_PX + 1)) for n in photograph.shape[:2])
            crop = photograph[top : top + CROP_PX, left : left + CROP_PX]
            clean: NDArray[np.float32] = crop.astype(np.float32) / np.float32(255)
            degraded = self.degrade(clean, rng, 1.0).clip(0, 1)
            yield self._tensor(degraded), self._tensor(clean)

    def _tensor(self, pixels: NDArray[np.float32]) -> Tensor:
        """RGB (H, W, 3) → (1, C, H, W), with as many channels as the network has."""
        if self.channels == 1:
            pixels = pixels.mean(-1, keepdims=True, dtype=np.float32)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32))[None]


def from_folder(folder: Path) -> list[Image]:
    """The clean pictures of a folder, RGB uint8 (H, W, 3), at least two."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", hint="--calibrate needs clean pictures.")
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and identify(path)]
    pictures = [read_photo(path).pixels for path in found[:64]]
    usable = [p for p in pictures if p.ndim == 3 and p.dtype == np.uint8]
    if len(usable) < 2:
        raise InputError(
            f"{folder} has {len(usable)} colour pictures of 8 bits; at least 2 are needed.",
            hint="One is kept for the scores.",
        )
    return usable


def shipped_photographs() -> list[Image]:
    """Photographs that come with scikit-image, the last one for the scores."""
    from skimage import data

    return [data.astronaut(), data.chelsea(), data.rocket(), data.coffee()]
