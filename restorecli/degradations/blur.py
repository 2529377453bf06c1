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

from restorecli.degradations.common import (
    Image,
    Plane,
    from_linear,
    jpeg,
    smooth_field,
    to_linear,
)
from restorecli.degradations.haze import follow_edges, segment

MARGIN_PX = 16  # how far a kernel can reach past the patch
FAR_MARGIN_PX = 32  # the same for the longest motion
FAR_PX = 60.0  # the longest way of an image point during the exposure


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
    encoding = 1.0 if rng.random() < 0.3 else 2.2
    still = to_linear(clean, encoding)

    def blurred() -> Image:
        if rng.random() < 0.4:
            return shaken(still, rng)
        return convolve(still, motion_kernel(rng, FAR_PX, FAR_MARGIN_PX))

    moved = blurred()
    if rng.random() < 0.4:
        moved = blend(moved, blurred() if rng.random() < 0.7 else still, rng)
    return finish(moved, rng, encoding)


def shaken(linear: Image, rng: np.random.Generator) -> Image:
    """The mean of frames of a camera that moves, turns and nears: (H, W, 3) → the same."""
    frames = int(rng.integers(6, 14))
    reach = float(np.exp(rng.uniform(np.log(2), np.log(FAR_PX))))  # pixels, from first to last
    path = np.cumsum(rng.normal(0, 1, (frames, 2)) + 1.5 * rng.normal(0, 1, 2), axis=0)
    path -= path[frames // 2]
    path *= reach / max(float(np.hypot(*(path[-1] - path[0]))), 1e-3)
    path = np.clip(path, 1 - FAR_MARGIN_PX, FAR_MARGIN_PX - 1)
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
    encoding = 1.0 if rng.random() < 0.25 else 2.2
    linear = to_linear(clean, encoding)
    depth = follow_edges(smooth_field(clean.shape[:2], 0, 1, rng), clean, 8, 3e-3)
    for _ in range(int(rng.integers(0, 3))):
        depth = np.where(segment(clean, rng), np.float32(rng.uniform(0, 1)), depth)
    depth = cv2.GaussianBlur(depth, (0, 0), 1.0).astype(np.float32)[..., None]
    blades = int(rng.integers(5, 10)) if rng.random() < 0.5 else 0
    turn, soft = float(rng.uniform(0, math.pi)), rng.random() < 0.5
    total, weights = np.zeros_like(clean), np.float32(1e-3)
    for i, radius in enumerate(np.sort(rng.uniform(0, float(rng.uniform(1, 9)), 3))):
        weight = np.clip(1 - np.abs(2 * depth - i), 0, 1)
        layer = convolve(linear, aperture(radius, blades, turn)) if radius > 0.5 else linear
        if soft and radius > 0.5:  # lenses are not perfect, and pixels were interpolated
            blur_px = radius * float(rng.uniform(0.2, 0.6))
            layer = cv2.GaussianBlur(layer, (0, 0), blur_px).astype(np.float32)
        total, weights = total + weight * layer, weights + weight
    blurred = finish((total / weights).astype(np.float32), rng, encoding)
    return jpeg(blurred, int(rng.integers(75, 99)), rng) if rng.random() < 0.4 else blurred


def motion_kernel(
    rng: np.random.Generator, longest_px: float = 26, reach_px: int = MARGIN_PX
) -> Plane:
    """Where an image point was during the exposure: (2r − 1, 2r − 1) float32, sum 1.

    Its way is up to ``longest_px`` long, and leads nowhere ``reach_px`` or farther away.
    """
    steps = 256
    straight = rng.random() < 0.35
    bend = 0.0 if straight else float(rng.uniform(0.002, 0.06))
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend, steps))
    pace = np.ones(steps) if straight else np.exp(np.cumsum(rng.normal(0, 0.05, steps)))
    path = np.cumsum(pace[:, None] * np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0)
    path -= path.mean(axis=0)
    length = math.exp(rng.uniform(math.log(1.5), math.log(longest_px)))
    walked = float(np.hypot(*np.diff(path, axis=0).T).sum())
    path = path * (length / walked) + rng.uniform(-0.5, 0.5, 2)
    return splat(np.clip(path, 1.5 - reach_px, reach_px - 1.5), reach_px)


def splat(path: np.ndarray, reach_px: int = MARGIN_PX) -> Plane:
    """Points (N, 2) around the centre, each shared by its four neighbours: (2r − 1)², sum 1."""
    side = 2 * reach_px - 1
    kernel = np.zeros((side, side), np.float32)
    at = path + reach_px - 1
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


def finish(linear: Image, rng: np.random.Generator, gamma: float = 2.2) -> Image:
    """Back to encoded values, with the little noise a camera leaves: (H, W, 3) in [0, 1]."""
    encoded = from_linear(np.clip(linear, 0, 1), gamma)
    sigma = rng.uniform(0, 3) / 255 if rng.random() < 0.7 else 0
    noisy = encoded + sigma * rng.standard_normal(encoded.shape, np.float32)
    return np.clip(noisy, 0, 1).astype(np.float32)
