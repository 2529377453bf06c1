"""Photographs taken in the dark.

In linear light the picture is scaled by the exposure, tinted by the lamp, and then shot noise and
read noise, which do not shrink with it, cover it (variance a·x + b: Foi et al., TIP 2008); an
encoding with another gamma ends it.
"""

from __future__ import annotations

import cv2
import numpy as np

from restorecli.degradations.common import Image, Pair, from_linear, smooth_field, to_linear
from restorecli.degradations.noise import correlated as smoothed


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


TARGET_MEAN = (0.36, 0.5)  # of the luma of what is to come out
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def night(clean: Image, rng: np.random.Generator) -> Pair:
    """A dark version, and what a person would call well exposed: two (H, W, 3) in [0, 1].

    Light may be uneven, lamps shine in the picture and stay what they are, and they tint it. The
    target has about the same mean luma whatever the photograph's: a network that starts from the
    exposure curve learns colour and noise from made pairs, tone from real ones.
    """
    target = at_mean(clean, float(rng.uniform(*TARGET_MEAN)))
    light = to_linear(target)
    exposure = np.exp(rng.uniform(np.log(0.004), np.log(0.2)))
    if rng.random() < 0.3:  # lamps, brighter than a photograph can hold
        lamps = np.clip((target.min(axis=2, keepdims=True) - 0.8) / 0.2, 0, 1)
        light = light * (1 + lamps * np.float32(rng.uniform(0.3, 1.5) / exposure))
    if rng.random() < 0.4:
        light = light * smooth_field(clean.shape[:2], 0.35, 1.2, rng)[..., None]
    warmth = rng.normal(0, 0.3 if rng.random() < 0.35 else 0.08)
    tint = np.exp(np.array([warmth, 0, -warmth]) + rng.normal(0, 0.05, 3))
    linear = light * (exposure * tint).astype(np.float32)
    shot = np.exp(rng.uniform(np.log(1e-6), np.log(3e-4)))
    read = np.exp(rng.uniform(np.log(1e-9), np.log(3e-6)))
    noise = np.sqrt(shot * linear + read) * spread(clean.shape[:2], rng)
    gamma = float(rng.uniform(1.8, 2.4))
    return from_linear(np.clip(linear + noise, 0, 1).astype(np.float32), gamma), target


def at_mean(picture: Image, mean: float) -> Image:
    """The picture under y = g·x/(1 + (g − 1)·x), with g such that its mean luma is ``mean``."""
    low, high = np.log(0.25), np.log(6.0)
    luma = cv2.resize(picture @ LUMA, (32, 32), interpolation=cv2.INTER_AREA)
    for _ in range(12):
        middle = (low + high) / 2
        g = np.exp(middle)
        brighter = (g * luma / (1 + (g - 1) * luma)).mean() > mean
        low, high = (low, middle) if brighter else (middle, high)
    g = np.float32(np.exp(low))
    return (g * picture / (1 + (g - 1) * picture)).astype(np.float32)
