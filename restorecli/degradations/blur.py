"""Blur by motion and by defocus, in linear light, different in different places.

Motion: the kernel is the path of the image point during the exposure, a random walk with inertia
(Boracchi and Foi, Modeling the Performance of Image Restoration from Motion Blur, TIP 2012), or a
straight line. Defocus: the kernel is the image of the aperture, a disc or a polygon of as many
sides as the iris has blades. Both blur light, not encoded values, and noise comes after.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from restorecli.degradations.common import Image, Plane, from_linear, smooth_field, to_linear
from restorecli.degradations.haze import follow_edges, segment

MARGIN_PX = 16  # how far a kernel can reach past the patch


def motion_blur(clean: Image, rng: np.random.Generator) -> Image:
    """Camera shake, and perhaps something that moves on its own: (H, W, 3) → the same."""
    linear = to_linear(clean)
    blurred = convolve(linear, motion_kernel(rng))
    if rng.random() < 0.5:
        other = convolve(linear, motion_kernel(rng)) if rng.random() < 0.6 else linear
        blurred = blend(blurred, other, rng)
    return finish(blurred, rng)


def defocus_blur(clean: Image, rng: np.random.Generator) -> Image:
    """A plane in focus somewhere, or nowhere: (H, W, 3) → the same."""
    linear = to_linear(clean)
    blades = int(rng.integers(5, 10)) if rng.random() < 0.5 else 0
    turn = float(rng.uniform(0, math.pi))
    largest = float(rng.uniform(0.7, 7))
    blurred = convolve(linear, aperture(largest, blades, turn))
    if rng.random() < 0.5:
        smallest = largest * float(rng.uniform(0, 0.7))
        other = convolve(linear, aperture(smallest, blades, turn)) if smallest > 0.5 else linear
        blurred = blend(blurred, other, rng)
    return finish(blurred, rng)


def any_motion(clean: Image, rng: np.random.Generator) -> Image:
    """Motion of any kind, a third of it as a video camera that averages frames records it.

    (H, W, 3) float32 in [0, 1] → the same.
    """
    if rng.random() < 0.6:
        return motion_blur(clean, rng)
    encoding = 1.0 if rng.random() < 0.3 else 2.2
    moved = shaken(to_linear(clean, encoding), rng)
    if rng.random() < 0.4:
        still = to_linear(clean, encoding)
        other = shaken(still, rng) if rng.random() < 0.7 else still
        moved = blend(moved, other, rng)
    encoded = from_linear(np.clip(moved, 0, 1), encoding)
    sigma = np.float32(rng.uniform(0, 3) / 255)
    noisy = encoded + sigma * rng.standard_normal(encoded.shape, np.float32)
    return np.clip(noisy, 0, 1).astype(np.float32)


def shaken(linear: Image, rng: np.random.Generator) -> Image:
    """The mean of frames of a camera that moves, turns and nears: (H, W, 3) → the same."""
    frames = int(rng.integers(5, 14))
    reach = float(np.exp(rng.uniform(np.log(1.5), np.log(24))))  # pixels, from first to last
    path = np.cumsum(rng.normal(0, 1, (frames, 2)) + 1.5 * rng.normal(0, 1, 2), axis=0)
    path -= path[frames // 2]
    path *= reach / max(float(np.hypot(*(path[-1] - path[0]))), 1e-3)
    path = np.clip(path, 1 - MARGIN_PX, MARGIN_PX - 1)
    turn = np.radians(rng.normal(0, 0.8)) * np.linspace(-1, 1, frames)
    zoom = 1 + rng.normal(0, 0.004) * np.linspace(-1, 1, frames)
    height, width = linear.shape[:2]
    centre = np.array([width, height]) * rng.uniform(-0.5, 1.5, 2)
    total = np.zeros_like(linear)
    for (dx, dy), angle, scale in zip(path, turn, zoom, strict=True):
        cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
        matrix = np.array([[cosine, -sine, 0], [sine, cosine, 0]])
        matrix[:, 2] = centre - matrix[:, :2] @ centre + (dx, dy)
        total += cv2.warpAffine(
            linear, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
    return total / np.float32(frames)


def any_defocus(clean: Image, rng: np.random.Generator) -> Image:
    """Defocus of any kind, half of it with borders where the picture has edges.

    (H, W, 3) float32 in [0, 1] → the same.
    """
    if rng.random() < 0.5:
        return defocus_blur(clean, rng)
    linear = to_linear(clean)
    blades = int(rng.integers(5, 10)) if rng.random() < 0.5 else 0
    turn = float(rng.uniform(0, math.pi))
    depth = follow_edges(smooth_field(clean.shape[:2], 0, 1, rng), clean, 8, 3e-3)
    for _ in range(int(rng.integers(0, 3))):
        depth = np.where(segment(clean, rng), np.float32(rng.uniform(0, 1)), depth)
    depth = cv2.GaussianBlur(depth, (0, 0), 1.0)[..., None]
    radii = np.sort(rng.uniform(0, float(rng.uniform(1, 8)), 3))
    layers = [convolve(linear, aperture(r, blades, turn)) if r > 0.5 else linear for r in radii]
    weights = [np.clip(1 - np.abs(2 * depth - i), 0, 1) for i in range(3)]
    total = sum((w * layer for w, layer in zip(weights, layers, strict=True)), np.float32(0))
    return finish((total / np.maximum(sum(weights), 1e-3)).astype(np.float32), rng)


def motion_kernel(rng: np.random.Generator) -> Plane:
    """Where an image point was during the exposure: (31, 31) float32, sum 1."""
    steps = 256
    straight = rng.random() < 0.35
    bend = 0.0 if straight else float(rng.uniform(0.002, 0.06))
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend, steps))
    pace = np.ones(steps) if straight else np.exp(np.cumsum(rng.normal(0, 0.05, steps)))
    path = np.cumsum(pace[:, None] * np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0)
    path -= path.mean(axis=0)
    length = math.exp(rng.uniform(math.log(1.5), math.log(26)))  # pixels
    walked = float(np.hypot(*np.diff(path, axis=0).T).sum())
    path = path * (length / walked) + rng.uniform(-0.5, 0.5, 2)
    return splat(np.clip(path, 1 - MARGIN_PX + 0.5, MARGIN_PX - 1.5))


def splat(path: np.ndarray) -> Plane:
    """Points (N, 2) around the centre, each shared by its four neighbours: (31, 31), sum 1."""
    side = 2 * MARGIN_PX - 1
    kernel = np.zeros((side, side), np.float32)
    at = path + MARGIN_PX - 1
    low = np.floor(at).astype(int)
    part = at - low
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - part[:, 0]) * np.abs(1 - right - part[:, 1])
            np.add.at(kernel, (low[:, 0] + down, low[:, 1] + right), share)
    return kernel / kernel.sum()


def aperture(radius_px: float, blades: int, turn: float) -> Plane:
    """A disc, or a regular polygon of ``blades`` sides, with soft edges: float32, sum 1."""
    reach = math.ceil(radius_px) + 1
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    distance = np.hypot(rows, columns)
    if blades:
        sector = 2 * math.pi / blades
        angle = (np.arctan2(rows, columns) + turn) % sector - sector / 2
        edge = radius_px * math.cos(sector / 2)
        distance = distance * np.cos(angle) + (radius_px - edge)
    kernel = np.clip(radius_px - distance + 0.5, 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def convolve(linear: Image, kernel: Plane) -> Image:
    """Each channel with ``kernel``: (H, W, 3) → the same."""
    blurred = cv2.filter2D(linear, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return blurred.astype(np.float32, copy=False)


def blend(one: Image, other: Image, rng: np.random.Generator) -> Image:
    """One picture here, the other there, with a soft border: (H, W, 3)."""
    weight = smooth_field(one.shape[:2], 0, 1, rng)[..., None]
    if rng.random() < 0.5:  # an object's outline rather than a gradual change
        weight = np.clip((weight - 0.5) * 12 + 0.5, 0, 1)
    return weight * one + (1 - weight) * other


def finish(linear: Image, rng: np.random.Generator) -> Image:
    """Back to encoded values, with the little noise a camera leaves: (H, W, 3) in [0, 1]."""
    encoded = from_linear(np.clip(linear, 0, 1))
    sigma = rng.uniform(0, 3) / 255 if rng.random() < 0.7 else 0
    noisy = encoded + sigma * rng.standard_normal(encoded.shape, np.float32)
    return np.clip(noisy, 0, 1).astype(np.float32)
