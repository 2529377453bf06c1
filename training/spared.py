"""What looks degraded and is not: photographs that a network must hand back unchanged.

A faded print has no blacks, fog hangs in a valley, frost and blinds are full of bright strokes. A
network that has only seen plain photographs takes the haze of the first two for the veil of snow,
and the strokes of the others for rain.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from restorecli.degradations.common import Image, Plane, smooth_field
from restorecli.degradations.rain import curtain


def toned(clean: Image, rng: np.random.Generator) -> Image:
    """Another tone: lifted blacks, lowered whites, more contrast, gray, fog, or none of them.

    (H, W, 3) float32 in [0, 1] → the same.
    """
    black, white = float(rng.uniform(0, 0.25)), float(rng.uniform(0.7, 1))
    kind = rng.random()
    if kind < 0.35:
        clean = black + clean * (white - black)
    elif kind < 0.5:
        clean = np.clip((clean - black / 2) / (white - black / 2), 0, 1)
    elif kind < 0.7:
        colour = np.float32(rng.uniform(0.6, 1))
        density = smooth_field(clean.shape[:2], 0, float(rng.uniform(0.2, 0.8)), rng)[..., None]
        clean = clean + density * (colour - clean)
    if rng.random() < 0.2:
        clean = np.repeat(clean.mean(axis=2, keepdims=True), 3, axis=2)
    return clean


def ruled(clean: Image, rng: np.random.Generator) -> Image:
    """With strokes that belong to the scene: blinds, fences, grids, or frost on a pane.

    (H, W, 3) float32 in [0, 1] → the same.
    """
    shape = (clean.shape[0], clean.shape[1])
    angle = float(rng.choice([0, 90])) if rng.random() < 0.5 else float(rng.uniform(0, 180))
    if rng.random() < 0.2:
        pattern = np.maximum(*(curtain(shape, angle + turn, cover(rng), rng) for turn in (0, 7)))
    else:
        pattern = bars(shape, angle, rng)
        if rng.random() < 0.4:
            pattern = np.maximum(pattern, bars(shape, angle + float(rng.uniform(60, 120)), rng))
    colour = rng.uniform(0.3, 1) + rng.normal(0, 0.2, 3)
    opacity = np.float32(rng.uniform(0.3, 1)) * pattern[..., None]
    return (clean + opacity * (np.clip(colour, 0, 1).astype(np.float32) - clean)).astype(np.float32)


def cover(rng: np.random.Generator) -> float:
    """The share that frost covers."""
    return float(rng.uniform(0.2, 0.7))


def bars(shape: tuple[int, int], angle_deg: float, rng: np.random.Generator) -> Plane:
    """Parallel bars at equal distances, of equal strength, with soft or sharp edges: (H, W)."""
    period = math.exp(float(rng.uniform(math.log(4), math.log(48))))
    share, edge = float(rng.uniform(0.12, 0.6)), float(rng.uniform(0.6, 1.5))
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle = math.radians(angle_deg)
    across = columns * math.cos(angle) - rows * math.sin(angle) + float(rng.uniform(0, period))
    distance = np.abs(across % period - period / 2)
    lines = np.clip((share * period / 2 - distance) / edge + 0.5, 0, 1)
    if rng.random() < 0.3:  # only a part of the scene
        lines = lines * (smooth_field(shape, 0, 1, rng) > 0.5)
        lines = cv2.GaussianBlur(lines, (0, 0), 0.7)
    return lines.astype(np.float32)


def spared(clean: Image, rng: np.random.Generator) -> Image:
    """A photograph as it is, in another tone, with strokes of its own, or both."""
    kind = rng.random()
    if kind < 0.45:
        return clean
    if kind < 0.75:
        clean = toned(clean, rng)
    return ruled(clean, rng) if kind > 0.65 else clean
