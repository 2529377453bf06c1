"""Photographs taken in the dark.

In linear light the picture is scaled by the exposure, tinted by the lamp, and then shot noise and
read noise, which do not shrink with it, cover it (variance a·x + b: Foi et al., TIP 2008); an
encoding with another gamma ends it.
"""

from __future__ import annotations

import cv2
import numpy as np

from restorecli.degradations.common import Image, Plane, from_linear, to_linear


def darkness(clean: Image, rng: np.random.Generator) -> Image:
    """An underexposed version: (H, W, 3) float32 in [0, 1] → the same."""
    exposure = np.exp(rng.uniform(np.log(0.004), np.log(0.25)))
    tint = np.exp(rng.normal(0, 0.12, 3))
    linear = to_linear(clean) * (exposure * tint).astype(np.float32)
    shot = np.exp(rng.uniform(np.log(1e-6), np.log(3e-4)))
    read = np.exp(rng.uniform(np.log(1e-9), np.log(3e-6)))
    noise = np.sqrt(shot * linear + read) * spread(clean.shape[:2], rng)
    gamma = float(rng.uniform(1.8, 2.4))
    return from_linear(np.clip(linear + noise, 0, 1).astype(np.float32), gamma)


def spread(shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Noise of variance 1 as a camera leaves it: (H, W, 3), correlated in space and colour."""
    own = [smoothed(shape, float(rng.uniform(0, 1.1)), rng) for _ in range(3)]
    shared = smoothed(shape, float(rng.uniform(0, 0.8)), rng)
    share = float(rng.uniform(0, 0.8))  # of the variance: demosaicking couples the channels
    planes = [np.sqrt(1 - share) * plane + np.sqrt(share) * shared for plane in own]
    return np.stack(planes, axis=-1).astype(np.float32)


def smoothed(shape: tuple[int, int], blur_px: float, rng: np.random.Generator) -> Plane:
    """White noise blurred by a Gaussian of ``blur_px`` and brought back to variance 1."""
    noise = rng.standard_normal(shape, np.float32)
    if blur_px < 0.3:
        return noise
    soft = cv2.GaussianBlur(noise, (0, 0), blur_px, borderType=cv2.BORDER_REFLECT)
    return (soft / max(float(soft.std()), 1e-6)).astype(np.float32)
