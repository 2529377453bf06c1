"""Pictures spoiled on purpose, to calibrate a conversion: stand-ins for what a task undoes.

They need not be realistic: they only have to send a network's features where its task sends them.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]  # RGB (H, W, 3) or gray (H, W, 1), in [0, 1]
Degrade = Callable[[Pixels, np.random.Generator], Pixels]

SIGMA = 25 / 255


def noisy(clean: Pixels, rng: np.random.Generator) -> Pixels:
    """Gaussian noise of σ 25."""
    return clean + rng.normal(0, SIGMA, clean.shape).astype(np.float32)


def rainy(clean: Pixels, rng: np.random.Generator) -> Pixels:
    """Bright streaks in one direction."""
    drops = (rng.random(clean.shape[:2]) > 0.985).astype(np.float32)
    streaks = cv2.filter2D(drops, -1, _line(17, rng.uniform(60, 120)) * 17)
    light: Pixels = streaks.clip(0, 1).astype(np.float32)[..., None]
    return clean + light * np.float32(0.35)


def snowy(clean: Pixels, rng: np.random.Generator) -> Pixels:
    """Soft bright flakes."""
    flakes = (rng.random(clean.shape[:2]) > 0.995).astype(np.float32)
    soft = cv2.GaussianBlur(flakes, (0, 0), 2.0) * 20
    cover: Pixels = soft.clip(0, 0.9).astype(np.float32)[..., None]
    return clean * (np.float32(1) - cover) + cover


def hazy(clean: Pixels, rng: np.random.Generator) -> Pixels:
    """Half of the light is that of the haze."""
    return clean * np.float32(0.5) + np.float32(rng.uniform(0.4, 0.45))


def dark(clean: Pixels, rng: np.random.Generator) -> Pixels:
    """A sixth of the light, and some noise."""
    return clean / np.float32(6) + rng.normal(0, 0.01, clean.shape).astype(np.float32)


def moved(clean: Pixels, rng: np.random.Generator) -> Pixels:
    """Blurred along a line of 15 px."""
    return _filtered(clean, _line(15, rng.uniform(0, 180)))


def unsharp(clean: Pixels, rng: np.random.Generator) -> Pixels:
    """Blurred by a disk of radius 4 px."""
    rows, columns = np.mgrid[-4:5, -4:5]
    disk = (rows**2 + columns**2 <= 16).astype(np.float32)
    return _filtered(clean, disk / disk.sum())


DEGRADE: dict[str, Degrade] = {
    "derain": rainy,
    "desnow": snowy,
    "dehaze": hazy,
    "denoise": noisy,
    "lowlight": dark,
    "deblur": moved,
    "defocus": unsharp,
}


def _line(length: int, degrees: float) -> Pixels:
    """A blurring kernel along a line, summing to 1: (length, length)."""
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1
    centre = (length / 2 - 0.5, length / 2 - 0.5)
    turned = cv2.warpAffine(
        kernel, cv2.getRotationMatrix2D(centre, degrees, 1.0), (length, length)
    ).astype(np.float32)
    return turned / turned.sum()


def _filtered(clean: Pixels, kernel: Pixels) -> Pixels:
    blurred = cv2.filter2D(clean, -1, kernel, borderType=cv2.BORDER_REFLECT)
    return blurred.reshape(clean.shape).astype(np.float32)
