"""What several degradations share: types, linear light, JPEG."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]  # (H, W, 3), RGB, [0, 1]
Plane = NDArray[np.float32]  # (H, W)
Mask = NDArray[np.bool_]  # (H, W)
Half = NDArray[np.float16]  # (H, W), kept in half the memory
Degrade = Callable[[Image, np.random.Generator], Image]
Pair = tuple[Image, Image]  # degraded, and what is to come out
MakePair = Callable[[Image, np.random.Generator], Pair]


def to_linear(encoded: Image, gamma: float = 2.2) -> Image:
    """Encoded values to linear light by a power: [0, 1] → [0, 1]."""
    return np.power(encoded, gamma, dtype=np.float32)


def from_linear(linear: Image, gamma: float = 2.2) -> Image:
    """Linear light to encoded values: [0, 1] → [0, 1]."""
    return np.power(linear, 1 / gamma, dtype=np.float32)


def jpeg(picture: Image, quality: int, rng: np.random.Generator) -> Image:
    """The picture after JPEG compression on a grid in random position."""
    top, left = (int(v) for v in rng.integers(0, 8, 2))
    padded = cv2.copyMakeBorder(picture, top, 0, left, 0, cv2.BORDER_REFLECT)
    levels = np.round(np.clip(padded, 0, 1) * 255).astype(np.uint8)
    encoded = cv2.imencode(".jpg", levels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded a line above
    return decoded[top:, left:, ::-1].astype(np.float32) / np.float32(255)


def scattered(
    stamp: Plane,
    count: float,
    shape: tuple[int, int],
    strengths: Callable[[int], NDArray[np.float64]],
    rng: np.random.Generator,
) -> Plane:
    """``stamp`` at random places of a plane (H, W), also half outside it, summed where they meet.

    ``count`` is the mean number for a pixel; ``strengths`` draws one factor for each.
    """
    reach = stamp.shape[0] // 2
    field = (shape[0] + 2 * reach, shape[1] + 2 * reach)
    number = rng.poisson(count * field[0] * field[1])
    points = np.zeros(field, np.float32)
    rows, columns = rng.integers(0, field[0], number), rng.integers(0, field[1], number)
    points[rows, columns] = strengths(number)
    drawn = cv2.filter2D(points, -1, stamp, borderType=cv2.BORDER_CONSTANT)
    return drawn[reach : reach + shape[0], reach : reach + shape[1]].astype(np.float32, copy=False)


def smooth_field(
    shape: tuple[int, int], low: float, high: float, rng: np.random.Generator, *, most: int = 4
) -> Plane:
    """A slowly varying random plane between ``low`` and ``high``, from up to most × most knots."""
    knots = rng.uniform(low, high, (int(rng.integers(2, most + 1)), int(rng.integers(2, most + 1))))
    field = cv2.resize(knots, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(field, low, high).astype(np.float32)
