"""Noise on a clean photograph: white Gaussian noise of any level, and a camera's noise.

Gaussian: y = x + n, n ~ N(0, σ²) in the encoded picture (the CBSD68 protocol). Camera: in linear
light the variance of a raw value is a·x + b, shot noise and read noise (Foi et al., Practical
Poissonian-Gaussian Noise Modeling, IEEE TIP 2008); demosaicking and the camera's own smoothing
spread it over neighbours and channels, gamma turns it signal-dependent, and JPEG comes last
(Brooks et al., Unprocessing Images for Learned Raw Denoising, CVPR 2019).
"""

from __future__ import annotations

import cv2
import numpy as np

from training.degradations.common import Image, Plane, from_linear, jpeg, to_linear

CLEAN_SHARE = 0.04
CAMERA_SHARE = 0.4
LARGEST_SIGMA = 55.0  # of 255


def blind_noise(clean: Image, rng: np.random.Generator) -> Image:
    """Noise of a random kind and level: (H, W, 3) float32 in [0, 1] → about that range."""
    kind = rng.random()
    if kind < CLEAN_SHARE:
        return clean.copy()
    return camera(clean, rng) if kind < CLEAN_SHARE + CAMERA_SHARE else gaussian(clean, rng)


def gaussian(clean: Image, rng: np.random.Generator) -> Image:
    """White noise, σ uniform up to ``LARGEST_SIGMA``; clipped as in a file, or not."""
    sigma = rng.uniform(0, LARGEST_SIGMA) / 255
    noisy = clean + sigma * rng.standard_normal(clean.shape, np.float32)
    noisy = np.clip(noisy, 0, 1) if rng.random() < 0.5 else noisy
    return noisy.astype(np.float32)


def camera(clean: Image, rng: np.random.Generator) -> Image:
    """Poisson-Gaussian noise through a camera's processing: clipped to [0, 1]."""
    gamma = float(rng.uniform(1.8, 2.4))
    linear = to_linear(clean, gamma)
    shot = np.exp(rng.uniform(np.log(5e-6), np.log(4e-3)))
    read = np.exp(rng.uniform(np.log(1e-8), np.log(1e-4)))
    gains = rng.uniform(1, 2.2, 3)  # white balance amplifies red and blue
    gains[1] = 1
    deviation = np.sqrt(shot * linear + read) * np.sqrt(gains).astype(np.float32)
    noise = deviation * spread(clean.shape[:2], rng)
    noisy = from_linear(np.clip(linear + noise, 0, 1).astype(np.float32), gamma)
    return jpeg(noisy, int(rng.integers(60, 100)), rng) if rng.random() < 0.6 else noisy


def spread(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
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
