"""What `restore degrade` makes: every kind of spoiling by name, with a strength one can turn.

A generator draws how strong its rain or haze is; ``severity`` scales that: 1 leaves it as drawn,
0.5 halves it, 2 doubles it. What is scaled is the cause (light of the streaks, density of the haze,
length of the motion), not the picture: half the severity of a blur is a shorter blur. Sizes are in
pixels, as the networks were taught.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from restorecli.degradations.blur import (
    MARGIN_PX,
    aperture,
    blend,
    convolve,
    finish,
    motion_kernel,
)
from restorecli.degradations.common import Image, Plane, smooth_field, to_linear
from restorecli.degradations.darkness import darkness
from restorecli.degradations.haze import random_depth
from restorecli.degradations.noise import camera
from restorecli.degradations.rain import SCREEN_SHARE, streak_map
from restorecli.degradations.snow import snow_map

Spoil = Callable[[Image, np.random.Generator, float], Image]
SEVERITIES = (0.05, 4.0)  # least and most
LARGEST_RADIUS_PX = 7.0


def rain(clean: Image, rng: np.random.Generator, severity: float) -> Image:
    """Streaks of brighter or fainter light."""
    screen = rng.random() < SCREEN_SHARE
    streaks = streak_map(size_of(clean), rng)[..., None] * np.float32(severity)
    return 1 - (1 - clean) * (1 - np.minimum(streaks, 1)) if screen else clean + streaks


def snow(clean: Image, rng: np.random.Generator, severity: float) -> Image:
    """Flakes, and a veil of those too far to be seen, of more or less opacity."""
    clear = (1 - snow_map(size_of(clean), rng)) ** np.float32(severity)
    colour = np.clip(rng.uniform(0.8, 1) + rng.normal(0, 0.015, 3), 0, 1).astype(np.float32)
    if rng.random() < 0.5:
        veil = np.float32(rng.uniform(0, 0.3)) * smooth_field(size_of(clean), 0.4, 1, rng)
        clear = clear * (1 - veil) ** np.float32(severity)
    made: Image = colour + clear[..., None] * (clean - colour)
    return made


def haze(clean: Image, rng: np.random.Generator, severity: float) -> Image:
    """Air of more or less density: I = J·t + A·(1 − t), t = exp(−β·d)."""
    depth = random_depth(clean, rng)
    density = float(rng.uniform(0.4, 2.0)) * severity
    t = np.exp(-density * depth / max(float(depth.mean()), 1e-3))[..., None]
    light = np.clip(float(rng.uniform(0.7, 1)) + rng.normal(0, 0.02, 3), 0, 1)
    return (clean * t + light * (1 - t)).astype(np.float32)


def noise(clean: Image, rng: np.random.Generator, severity: float) -> Image:
    """A camera's noise, stronger or weaker."""
    return clean + np.float32(severity) * (camera(clean, rng) - clean)


def dark(clean: Image, rng: np.random.Generator, severity: float) -> Image:
    """A shorter exposure, in steps of light: ``severity`` 2 has twice as many stops."""
    ratio = (darkness(clean, rng) + np.float32(1e-4)) / (clean + np.float32(1e-4))
    return clean * np.power(ratio, severity, dtype=np.float32)


def motion(clean: Image, rng: np.random.Generator, severity: float) -> Image:
    """A longer or shorter way of camera and objects while the shutter is open."""
    kernel = resized(motion_kernel(rng), severity)
    return in_parts(clean, kernel, resized(motion_kernel(rng), severity), rng)


def defocus(clean: Image, rng: np.random.Generator, severity: float) -> Image:
    """A larger or smaller disc of confusion."""
    blades = int(rng.integers(5, 10)) if rng.random() < 0.5 else 0
    turn = float(rng.uniform(0, np.pi))
    radius = float(rng.uniform(0.7, LARGEST_RADIUS_PX)) * severity
    nearer = radius * float(rng.uniform(0, 0.7))
    return in_parts(clean, aperture(radius, blades, turn), aperture(nearer, blades, turn), rng)


def in_parts(clean: Image, one: Plane, other: Plane, rng: np.random.Generator) -> Image:
    """Blurred by ``one``, in half of all pictures by the ``other`` in places."""
    linear = to_linear(clean)
    blurred = convolve(linear, one)
    if rng.random() < 0.5:
        blurred = blend(blurred, convolve(linear, other), rng)
    return finish(blurred, rng)


def resized(kernel: Plane, factor: float) -> Plane:
    """A kernel that reaches ``factor`` times as far: square of odd side, sum 1."""
    reach = max(1, int(np.ceil(MARGIN_PX * factor)))
    side, centre = 2 * reach + 1, (kernel.shape[0] - 1) / 2
    fine = max(1, int(np.ceil(1 / factor)))  # shrunk by the mean of fine steps, or points are lost
    steps = side * fine
    shift = (steps - 1) / 2 - factor * fine * centre
    matrix = np.array([[factor * fine, 0, shift], [0, factor * fine, shift]], np.float32)
    drawn = cv2.warpAffine(kernel, matrix, (steps, steps), flags=cv2.INTER_LINEAR)
    drawn = drawn.reshape(side, fine, side, fine).sum(axis=(1, 3))
    return (drawn / drawn.sum()).astype(np.float32)


def size_of(clean: Image) -> tuple[int, int]:
    """(height, width) in pixels."""
    return clean.shape[0], clean.shape[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One way to spoil a picture, and the task of ``restore`` that undoes it."""

    summary: str
    task: str
    spoil: Spoil


KINDS: dict[str, Kind] = {
    "rain": Kind(summary="rain streaks", task="derain", spoil=rain),
    "snow": Kind(summary="falling snow", task="desnow", spoil=snow),
    "haze": Kind(summary="haze that grows with distance", task="dehaze", spoil=haze),
    "noise": Kind(summary="the noise of a camera", task="denoise", spoil=noise),
    "dark": Kind(summary="too short an exposure", task="lowlight", spoil=dark),
    "motion": Kind(summary="camera shake", task="deblur", spoil=motion),
    "defocus": Kind(summary="out of focus", task="defocus", spoil=defocus),
}


def degraded(kind: str, clean: Image, seed: int, severity: float = 1.0) -> Image:
    """Spoil ``clean`` (H, W, 3) float32 in [0, 1]: the same shape and range.

    The same picture, kind, seed and severity give the same values. Raises ``ValueError`` for a
    severity outside ``SEVERITIES``.
    """
    low, high = SEVERITIES
    if not low <= severity <= high:
        raise ValueError(f"severity must be from {low:g} to {high:g}, got {severity:g}")
    made = KINDS[kind].spoil(clean, np.random.default_rng(seed), severity)
    return np.clip(made, 0, 1).astype(np.float32, copy=False)
