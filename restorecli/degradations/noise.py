"""Noise on a clean photograph: white Gaussian noise of any level, and a camera's noise.

Gaussian: y = x + n, n ~ N(0, σ²) in the encoded picture (the CBSD68 protocol). Camera: in linear
light the variance of a raw value is a·x + b, shot noise and read noise (Foi et al., Practical
Poissonian-Gaussian Noise Modeling, IEEE TIP 2008). It falls on a Bayer mosaic; what the
demosaicking makes of it, white balance, the camera's own smoothing of colours, gamma and JPEG
follow (Brooks et al., Unprocessing Images for Learned Raw Denoising, CVPR 2019).
"""

from __future__ import annotations

import cv2
import numpy as np

from restorecli.degradations.common import Image, Plane, from_linear, jpeg, to_linear

LARGEST_SIGMA, USUAL_SIGMAS = 55.0, (5.0, 30.0)  # of 255
USUAL_SHARE = 0.65
SHOT = (3e-4, 6e-2)  # a of the variance a·x + b
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def gaussian(clean: Image, rng: np.random.Generator) -> Image:
    """White noise, σ mostly in ``USUAL_SIGMAS``, else any up to ``LARGEST_SIGMA``.

    Clipped as in a file, or not.
    """
    sigmas = USUAL_SIGMAS if rng.random() < USUAL_SHARE else (0, LARGEST_SIGMA)
    sigma = rng.uniform(*sigmas) / 255
    noisy = clean + sigma * rng.standard_normal(clean.shape, np.float32)
    noisy = np.clip(noisy, 0, 1) if rng.random() < 0.5 else noisy
    return noisy.astype(np.float32)


def camera(clean: Image, rng: np.random.Generator) -> Image:
    """Poisson-Gaussian noise through a camera's processing: clipped to [0, 1]."""
    gamma = float(rng.uniform(1.8, 2.4))
    linear = to_linear(clean, gamma)
    shot = float(np.exp(rng.uniform(*np.log(SHOT))))
    noise = as_processed(mosaic_noise(linear, shot, shot * float(rng.uniform(0, 0.03)), rng), rng)
    noisy = from_linear(np.clip(linear + noise, 0, 1).astype(np.float32), gamma)
    return jpeg(noisy, int(rng.integers(70, 100)), rng) if rng.random() < 0.7 else noisy


def any_camera(clean: Image, rng: np.random.Generator) -> Image:
    """As `camera`, from cameras and phones of any kind: clipped to [0, 1].

    Noise may be coarse, since the picture was shrunk or denoised; colour noise may lie in blotches;
    the camera may have sharpened both, and saved a JPEG of low quality.
    """
    noisy = camera(clean, rng) if rng.random() < 0.6 else coarse_noise(clean, rng)
    if rng.random() < 0.3:  # in-camera sharpening
        soft = cv2.GaussianBlur(noisy, (0, 0), float(rng.uniform(0.6, 1.5)))
        noisy = np.clip(noisy + np.float32(rng.uniform(0.1, 0.8)) * (noisy - soft), 0, 1)
        noisy = noisy.astype(np.float32)
    return jpeg(noisy, int(rng.integers(60, 98)), rng) if rng.random() < 0.35 else noisy


def coarse_noise(clean: Image, rng: np.random.Generator) -> Image:
    """Noise that depends on the light and is correlated in space and colour: clipped to [0, 1]."""
    level = np.exp(rng.uniform(np.log(1.5), np.log(28))) / 255
    luma = correlated(clean.shape[:2], float(rng.uniform(0, 1.8)), rng)[..., None]
    colours = [correlated(clean.shape[:2], float(rng.uniform(0.3, 5)), rng) for _ in range(3)]
    chroma = np.stack(colours, axis=-1)
    chroma -= (chroma @ LUMA)[..., None]
    noise = luma + np.float32(rng.uniform(0, 1.4)) * chroma
    slope = float(rng.uniform(-0.3, 1))  # shot noise is stronger in the light, gamma evens it out
    strength = level * (1 + slope * (clean.mean(axis=2, keepdims=True) - 0.5))
    return np.clip(clean + strength.astype(np.float32) * noise, 0, 1).astype(np.float32)


def correlated(shape: tuple[int, int], blur_px: float, rng: np.random.Generator) -> Plane:
    """White noise blurred by a Gaussian of ``blur_px``, of variance 1: (H, W)."""
    noise = rng.standard_normal(shape, np.float32)
    if blur_px < 0.3:
        return noise
    soft = cv2.GaussianBlur(noise, (0, 0), blur_px, borderType=cv2.BORDER_REFLECT)
    return (soft / max(float(soft.std()), 1e-6)).astype(np.float32)


def any_noise(clean: Image, rng: np.random.Generator) -> Image:
    """White noise or a camera's, 7 to 3: what one blind network learns to remove."""
    return np.clip(gaussian(clean, rng), 0, 1) if rng.random() < 0.7 else any_camera(clean, rng)


def mosaic_noise(linear: Image, shot: float, read: float, rng: np.random.Generator) -> Image:
    """What demosaicking makes of the noise of raw values: (H, W, 3), about mean 0.

    The variance of a raw value is ``shot`` times its light, plus ``read``. Red and blue are
    amplified by the white balance afterwards.
    """
    gains = np.array([rng.uniform(1.2, 2.4), 1, rng.uniform(1.2, 2.2)], np.float32)
    raw = mosaic(linear / gains)
    noise = np.sqrt(shot * raw + read) * rng.standard_normal(raw.shape, np.float32)
    return gains * (demosaicked(raw + noise) - demosaicked(raw))


def mosaic(picture: Image) -> Plane:
    """The one colour that each pixel of a Bayer sensor sees, RGGB: (H, W, 3) → (H, W)."""
    raw = picture[..., 1].copy()
    raw[::2, ::2] = picture[::2, ::2, 0]
    raw[1::2, 1::2] = picture[1::2, 1::2, 2]
    return raw


def demosaicked(raw: Plane) -> Image:
    """Three colours from one, along edges: (H, W), RGGB, in [−1, 3] → (H, W, 3)."""
    levels = np.clip((raw + 1) * 16_383, 0, 65_535).astype(np.uint16)  # room for noise below 0
    colours = cv2.demosaicing(levels, cv2.COLOR_BayerRGGB2RGB_EA)
    return colours.astype(np.float32) / np.float32(16_383) - 1


def as_processed(noise: Image, rng: np.random.Generator) -> Image:
    """Noise after a camera's own denoising: (H, W, 3).

    It smooths colour more than light, and leaves more of what is coarse than of what is fine.
    """
    luma = (noise @ LUMA)[..., None]
    chroma = blurred(noise - luma, float(rng.uniform(0, 4)))
    fine, coarse = (
        blurred(luma, float(rng.uniform(0, 1.2))),
        blurred(luma, float(rng.uniform(1, 4))),
    )
    removed = float(rng.uniform(0, 0.7))
    return (1 - removed) * fine + removed * coarse + chroma


def blurred(picture: Image, blur_px: float) -> Image:
    """A Gaussian of ``blur_px``, or nothing below what pixels resolve: (H, W, C) → the same."""
    if blur_px < 0.3:
        return picture
    soft = cv2.GaussianBlur(picture, (0, 0), blur_px, borderType=cv2.BORDER_REFLECT)
    return soft.reshape(picture.shape).astype(np.float32, copy=False)
