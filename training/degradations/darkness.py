"""Photographs taken in the dark.

In linear light the picture is scaled by the exposure, tinted by the lamp, and then shot noise and
read noise, which do not shrink with it, cover it (variance a·x + b: Foi et al., TIP 2008); an
encoding with another gamma ends it.
"""

from __future__ import annotations

import numpy as np

from training.degradations.common import Image, from_linear, to_linear
from training.degradations.noise import spread


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
