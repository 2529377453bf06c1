"""Haze on a clean photograph.

Image formation: I = J·t + A·(1 − t), t = exp(−β·d) (Koschmieder; Narasimhan and Nayar, Vision and
the Atmosphere, IJCV 2002). Photographs come without depth, so d is made up: a plane, the ground
seen in perspective, a smooth field, or walls; edges of the picture's own are printed into it, since
depth changes where objects end. A sky is infinitely far and its colour is that of the haze: it must
come out as it is, neither gray nor mottled.
"""

from __future__ import annotations

import cv2
import numpy as np

from restorecli.degradations.common import Image, Mask, Pair, Plane, jpeg, smooth_field


def haze(clean: Image, rng: np.random.Generator) -> Image:
    """Haze of random density and colour: (H, W, 3) float32 in [0, 1] → the same."""
    depth = random_depth(clean, rng)
    density = float(rng.uniform(0.25, 2.6))  # β times the mean depth
    transmission = np.exp(-density * depth / max(float(depth.mean()), 1e-3))
    light = float(rng.uniform(0.6, 1)) + rng.normal(0, 0.025, 3)
    light = np.clip(light, 0, 1).astype(np.float32)
    t = transmission[..., None].astype(np.float32)
    return np.clip(clean * t + light * (1 - t), 0, 1)


NEUTRAL_SHARE = 0.55  # of the samples: white haze of middle density, as over an indoor scene
THINNEST_T = 0.06  # transmission below this leaves nothing to restore


def haze_and_sky(clean: Image, rng: np.random.Generator) -> Pair:
    """A hazy version, and what is to come out: two (H, W, 3) in [0, 1].

    That is the clean picture, but where the sky is, what the hazy one shows.
    """
    above = smooth_sky(clean)
    depth = random_depth(clean, rng)
    depth = depth / max(float(np.percentile(depth, 99.5)), 1e-3)
    nearest = float(rng.uniform(0, 0.4))
    depth = nearest + (1 - nearest) * np.clip(depth, 0, 1)
    if rng.random() < NEUTRAL_SHARE:
        density, light = float(rng.uniform(0.4, 1.7)), np.full(3, rng.uniform(0.97, 1))
    else:
        density = float(np.exp(rng.uniform(np.log(0.2), np.log(3))))
        light = rng.uniform(0.7, 1) + rng.normal(0, 0.025, 3)
    share = float(above.mean())
    if share > 0.03:  # the light of the haze is that of the sky over it
        sky_colour = (clean * above[..., None]).sum(axis=(0, 1)) / (share * above.size)
        light = sky_colour + rng.normal(0, 0.015, 3)
        depth = depth + above * float(rng.uniform(0.3, 2))
    t = np.maximum(np.exp(-density * depth), THINNEST_T)[..., None].astype(np.float32)
    hazy = clean * t + np.clip(light, 0, 1).astype(np.float32) * (1 - t)
    target = clean + above[..., None] * (hazy - clean)
    if rng.random() < 0.3:
        hazy = hazy + np.float32(rng.uniform(0, 2.5) / 255) * rng.standard_normal(
            hazy.shape, np.float32
        )
    hazy = np.clip(hazy, 0, 1)
    if rng.random() < 0.3:
        hazy = jpeg(hazy, int(rng.integers(80, 99)), rng)
    return hazy, np.clip(target, 0, 1)


def smooth_sky(clean: Image) -> Plane:
    """How surely a pixel is sky, which is bright, smooth and reaches the top: (H, W) in [0, 1]."""
    height, width = clean.shape[:2]
    size = (max(1, width // 3), max(1, height // 3))
    small = cv2.resize(clean, size, interpolation=cv2.INTER_AREA)
    luma = small.mean(axis=2)
    blue_or_gray = small[..., 2] >= small[..., 0] - 0.08
    mean = cv2.blur(luma, (5, 5))
    rough = np.sqrt(np.maximum(cv2.blur(luma * luma, (5, 5)) - mean * mean, 0))
    likely = ((luma > 0.5) & (rough < 0.03) & blue_or_gray).astype(np.uint8)
    _, labels = cv2.connectedComponents(likely, connectivity=4)
    reaching = np.unique(labels[0])
    inside = np.isin(labels, reaching[reaching > 0]).astype(np.float32)
    if inside.mean() < 0.03:
        return np.zeros((height, width), np.float32)
    soft = cv2.resize(inside, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    return np.clip(follow_edges(soft, clean, 6, 1e-4), 0, 1)


def looks_hazy(clean: Image) -> bool:
    """Whether much of a picture that is not sky has no dark channel, as if haze lay on it."""
    small = cv2.resize(clean, (32, 32), interpolation=cv2.INTER_AREA)
    dark = cv2.erode(small.min(axis=2), np.ones((3, 3), np.uint8))
    ground = cv2.resize(smooth_sky(clean), (32, 32), interpolation=cv2.INTER_AREA) < 0.5
    return bool((dark[ground] > 0.3).mean() > 0.35) if ground.any() else True


def random_depth(clean: Image, rng: np.random.Generator) -> Plane:
    """A depth that the picture could have: (H, W) float32, positive."""
    shape = clean.shape[:2]
    makers = [plane, ground, lambda s, r: smooth_field(s, 0.15, 2, r, most=5), walls]
    depth = makers[int(rng.integers(len(makers)))](shape, rng)
    for _ in range(int(rng.integers(0, 4))):  # objects nearer or farther than what is behind them
        inside = segment(clean, rng)
        depth = np.where(inside, depth * np.float32(np.exp(rng.normal(0, 0.5))), depth)
    if rng.random() < 0.25:  # a bright and smooth top is sky: far away
        depth = np.where(sky(clean), np.float32(depth.max() * rng.uniform(1, 2)), depth)
    if rng.random() < 0.7:
        depth = follow_edges(depth, clean)
    return np.maximum(depth, np.float32(0.02))


def plane(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Linear depth in any direction: (H, W)."""
    rows, columns = grid(shape)
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 1.5)
    depth = 1 + slope * ((rows - 0.5) * np.sin(angle) + (columns - 0.5) * np.cos(angle))
    return np.maximum(depth, 0.05).astype(np.float32)


def ground(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Flat ground up to the horizon, d ∝ 1 / (rows below it); constant above: (H, W)."""
    rows, _ = grid(shape)
    horizon = rng.uniform(-0.5, 0.6)
    below = np.maximum(rows - horizon, 0.06)
    return (0.5 / below).astype(np.float32)


def walls(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """The inside of a box: floor, ceiling, side walls and a back wall: (H, W)."""
    rows, columns = grid(shape)
    y, x = rows - rng.uniform(0.2, 0.8), columns - rng.uniform(0.2, 0.8)
    size = [rng.uniform(0.3, 1.2) for _ in range(4)]
    nearest = np.maximum.reduce([y / size[0], -y / size[1], x / size[2], -x / size[3]])
    back = rng.uniform(1, 4)
    return np.minimum(1 / np.maximum(nearest, 1e-3), back).astype(np.float32)


def grid(shape: tuple[int, int]) -> tuple[Plane, Plane]:
    """Row and column of each pixel, in [0, 1): two planes (H, W)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return rows / shape[0], columns / shape[1]


def segment(clean: Image, rng: np.random.Generator) -> Mask:
    """Pixels that look like a random one and lie near it: (H, W) bool."""
    height, width = clean.shape[:2]
    soft = cv2.blur(clean, (5, 5))
    row, column = int(rng.integers(height)), int(rng.integers(width))
    likeness = np.abs(soft - soft[row, column]).sum(axis=2) < rng.uniform(0.1, 0.5)
    rows, columns = grid((height, width))
    away = np.hypot(rows - row / height, columns - column / width)
    return likeness & (away < rng.uniform(0.15, 0.7))


def sky(clean: Image) -> Mask:
    """Bright pixels in the upper half: (H, W) bool."""
    upper = grid(clean.shape[:2])[0] < 0.6
    return (cv2.blur(clean, (5, 5)).min(axis=2) > 0.65) & upper


def follow_edges(depth: Plane, clean: Image, radius_px: int = 8, epsilon: float = 1e-3) -> Plane:
    """The guided filter (He, Sun and Tang, TPAMI 2013) with the picture's gray as the guide."""
    guide = clean.mean(axis=2)
    size = (2 * radius_px + 1, 2 * radius_px + 1)
    mean_g, mean_d = cv2.blur(guide, size), cv2.blur(depth, size)
    slope = (cv2.blur(guide * depth, size) - mean_g * mean_d) / (
        cv2.blur(guide * guide, size) - mean_g * mean_g + epsilon
    )
    offset = mean_d - slope * mean_g
    smooth = cv2.blur(slope, size) * guide + cv2.blur(offset, size)
    return np.clip(smooth, depth.min(), depth.max()).astype(np.float32)
