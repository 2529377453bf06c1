"""Closed-form measures of one picture: noise, haze, light, blur, streaks and blobs.

Noise: median absolute deviation of the finest diagonal detail (Donoho and Johnstone, Ideal spatial
adaptation by wavelet shrinkage, 1994), of the picture and of its halves. Haze: the dark channel
(He, Sun and Tang, CVPR 2009) and local contrast. Blur: gradients at several distances, the variance
of the Laplacian, power spectrum and cepstrum. Rain and snow: thin or round things brighter than
what is around them (top-hats, extrema of differences of Gaussians), and whether they have one
direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]  # (H, W), of 255
Colours = NDArray[np.float32]  # (H, W, 3) RGB, of 255
WINDOW_PX, MOST_WINDOWS = 256, (3, 4)  # along the shorter and the longer side
LONGEST_PX = 2048  # a larger picture is judged as it looks at this size
SCENE_PX = 256
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
DIRECTIONS = ((0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (2, -1), (2, -2), (1, -2))  # down, right
FLAT = 12.0  # of 255: what a window's edges must exceed to say anything of sharpness


def reduced(pixels: NDArray[np.uint8]) -> Colours:
    """(H, W, 3) or gray (H, W) → float32 (h, w, 3), no side longer than ``LONGEST_PX``."""
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    height, width = pixels.shape[:2]
    if (longest := max(height, width)) > LONGEST_PX:
        size = tuple(max(1, round(side * LONGEST_PX / longest)) for side in (width, height))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return pixels.astype(np.float32)


def measure(pixels: NDArray[np.uint8]) -> dict[str, float]:
    """What can be measured of (H, W, 3) RGB or (H, W) gray: names and finite numbers."""
    picture = reduced(pixels)
    short = WINDOW_PX // 4 - min(picture.shape[:2])
    if short > 0:  # a stamp: what it lacks is mirrored
        picture = cv2.copyMakeBorder(picture, 0, short, 0, short, cv2.BORDER_REFLECT).astype(
            np.float32
        )
    found = of_scene(picture) | of_spectrum(picture)
    of_windows = [of_window(window) for window in windows(picture)]
    table = np.array([[float(value) for value in each.values()] for each in of_windows])
    for suffix, values in zip(
        ("low", "mid", "high"), np.quantile(table, (0.1, 0.5, 0.9), axis=0), strict=True
    ):
        found |= {f"{name}.{suffix}": v for name, v in zip(of_windows[0], values, strict=True)}
    return {name: float(value) for name, value in found.items()}


def windows(picture: Colours) -> list[Colours]:
    """Squares spread evenly over the picture; all of it where that takes few enough."""

    def starts(length: int, most: int) -> list[int]:
        side = min(WINDOW_PX, length)
        count = min(most, max(1, round(length / side)))
        return [round(i * (length - side) / max(1, count - 1)) for i in range(count)]

    height, width = picture.shape[:2]
    least, most = MOST_WINDOWS
    rows, columns = (most, least) if height > width else (least, most)
    return [
        picture[top : top + WINDOW_PX, left : left + WINDOW_PX]
        for top in starts(height, rows)
        for left in starts(width, columns)
    ]


def of_scene(picture: Colours) -> dict[str, Any]:
    """Light, colour, haze: of the whole, as it looks at a few hundred pixels."""
    height, width = picture.shape[:2]
    scale = min(1.0, SCENE_PX / max(height, width))
    size = (max(32, round(width * scale)), max(32, round(height * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)
    luma = small @ LUMA
    darkest, brightest = lowest(small), -lowest(-small)
    dark = cv2.erode(darkest, np.ones((7, 7), np.uint8))
    chroma = brightest - darkest
    mean = cv2.blur(luma, (15, 15))
    contrast = np.sqrt(np.maximum(cv2.blur(luma * luma, (15, 15)) - mean * mean, 0))
    smooth_bright = (luma > 140) & (contrast < 6)
    ground = dark[~smooth_bright] if (~smooth_bright).mean() > 0.1 else dark.ravel()
    rows = np.arange(size[1]) / size[1]
    down = np.corrcoef(rows, dark.mean(axis=1) + 1e-3 * rows)[0, 1]
    found = {
        "luma": luma.mean(),
        "luma.spread": luma.std(),
        "light.max": np.log1p(brightest.mean()),
        "dark.mean": dark.mean(),
        "ground.mean": ground.mean(),
        "ground.share": (ground > 100).mean(),
        "chroma": np.log1p(chroma.mean()),
        "saturation": (chroma / (brightest + 8)).mean(),
        "contrast.mid": np.log1p(np.median(contrast)),
        "contrast.high": np.log1p(np.quantile(contrast, 0.9)),
        "sky": smooth_bright.mean(),
        "down": down,
        "night": (luma < 24).mean(),
        "white": (luma > 245).mean(),
    }
    for name, plane in (("luma", luma), ("dark", dark), ("ground", ground)):
        shares = (1, 5, 25, 50, 75, 95, 99) if name == "luma" else (5, 50, 95)
        for share, value in zip(shares, np.percentile(plane, shares), strict=True):
            found[f"{name}.{share}"] = value
    return found


def lowest(colours: Colours) -> Plane:
    """The smallest of the three values of each pixel."""
    return np.minimum(np.minimum(colours[..., 0], colours[..., 1]), colours[..., 2])


def of_window(window: Colours) -> dict[str, float]:
    """Noise, sharpness, streaks and blobs of one square of a picture at its own size."""
    luma = window @ LUMA
    return of_noise(window, luma) | of_edges(luma) | of_bright_things(window, luma)


def of_noise(window: Colours, luma: Plane) -> dict[str, float]:
    """Logarithms of σ of luma and of colour, of the window and of its halves and quarters."""
    found = {}
    colour = ((window[..., 2] + window[..., 0]) / 2 - luma).astype(np.float32)
    inside = (luma > 3) & (luma < 252)
    for scale in (1, 2, 4):
        for name, plane in (("luma", luma), ("colour", colour)):
            typical, flat = sigma(smaller(plane, scale), smaller(inside.astype(np.float32), scale))
            found[f"noise.{name}.{scale}"] = np.log(typical + 0.05)
            found[f"flat.{name}.{scale}"] = np.log(flat + 0.05)
    return found


def tail(plane: Plane, share: float) -> float:
    """The value below which ``share`` percent of the pixels lie, from every ninth of them."""
    some = plane[::3, ::3].ravel()
    at = min(some.size - 1, int(some.size * share / 100))
    return float(np.partition(some, at)[at])


def smaller(plane: Plane, scale: int) -> Plane:
    """``plane`` in a fraction of its size, each pixel the mean of those it stands for."""
    if scale == 1:
        return plane
    size = (max(16, plane.shape[1] // scale), max(16, plane.shape[0] // scale))
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def sigma(plane: Plane, inside: Plane) -> tuple[float, float]:
    """σ of noise by the diagonal detail: of the plane, and where it is smoothest.

    What is black or white has lost its noise and does not count.
    """
    rows, columns = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    a, b = plane[:rows:2, :columns:2], plane[:rows:2, 1:columns:2]
    c, d = plane[1:rows:2, :columns:2], plane[1:rows:2, 1:columns:2]
    detail = np.abs(a - b - c + d) / 2
    counts = inside[:rows:2, :columns:2] > 0.9
    if counts.mean() < 0.05:
        return 0.0, 0.0
    typical = float(np.median(detail[counts])) / 0.6745
    side = 8
    rows, columns = detail.shape[0] // side, detail.shape[1] // side
    if not rows or not columns:
        return typical, typical
    blocks = detail[: rows * side, : columns * side].reshape(rows, side, columns, side)
    share = counts[: rows * side, : columns * side].reshape(rows, side, columns, side).mean((1, 3))
    of_blocks = np.sqrt((blocks * blocks).mean(axis=(1, 3)))[share > 0.9]
    return typical, float(np.quantile(of_blocks, 0.1)) if of_blocks.size else typical


def of_edges(luma: Plane) -> dict[str, float]:
    """How steep edges are, in which directions, and how that changes with distance."""
    calm = cv2.GaussianBlur(luma, (0, 0), 0.7)
    laplacian = cv2.Laplacian(luma, cv2.CV_32F)
    steps = {}
    for distance in (1, 2, 4, 8):
        across = np.abs(calm[:, distance:] - calm[:, :-distance])
        down = np.abs(calm[distance:] - calm[:-distance])
        steps[distance] = (
            np.log(across.mean() + down.mean() + 0.5),
            np.log(tail(across, 99.5) + tail(down, 99.5) + 4),
        )
    by_direction = []
    for rows, columns in DIRECTIONS:
        moved = calm[rows:, max(0, columns) : calm.shape[1] + min(0, columns)]
        still = calm[: calm.shape[0] - rows, max(0, -columns) : calm.shape[1] - max(0, columns)]
        length = np.hypot(rows, columns)
        by_direction.append((np.abs(moved - still).mean() + 0.3) / length**0.6)
    shares = np.log(np.array(by_direction) / np.mean(by_direction))
    strongest = int(shares.argmax())
    return {
        "laplacian": np.log(laplacian.var() + 1),
        "laplacian.tail": np.log(
            (tail(np.abs(laplacian), 99.5) + 2) / (np.abs(laplacian).mean() + 1)
        ),
        "steps.1": steps[1][0],
        "steps.2": steps[2][0] - steps[1][0],
        "steps.4": steps[4][0] - steps[2][0],
        "steps.8": steps[8][0] - steps[4][0],
        "edges.1": steps[1][1],
        "edges.2": steps[2][1] - steps[1][1],
        "edges.4": steps[4][1] - steps[2][1],
        "edges.8": steps[8][1] - steps[4][1],
        "direction.weakest": shares.min(),
        "direction.strongest": shares.max(),
        "direction.opposite": shares[(strongest + 4) % 8],
        "direction.upright": shares[0] - shares[4],
    }


def of_bright_things(window: Colours, luma: Plane) -> dict[str, float]:
    """Thin and round things brighter than what is around them, beside those that are darker."""
    found = {}
    gray = lowest(window)
    for radius in (1, 2, 4):
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        bright = luma - cv2.morphologyEx(luma, cv2.MORPH_OPEN, disc)
        black = cv2.morphologyEx(luma, cv2.MORPH_CLOSE, disc) - luma
        found[f"bright.{radius}"] = np.log(bright.mean() + 0.5)
        found[f"bright.black.{radius}"] = np.log((bright.mean() + 0.5) / (black.mean() + 0.5))
        found[f"bright.tail.{radius}"] = np.log((tail(bright, 99) + 3) / (tail(black, 99) + 3))
        if radius in {1, 4}:
            white = gray - cv2.morphologyEx(gray, cv2.MORPH_OPEN, disc)
            found[f"colourless.{radius}"] = np.log((white.mean() + 0.5) / (bright.mean() + 0.5))
        if radius == 2:
            found |= of_streaks(bright, black)
    return found | of_blobs(luma, gray)


def of_streaks(bright: Plane, black: Plane) -> dict[str, float]:
    """Whether thin bright things are lines of one direction, and those that are dark are not."""
    lines = [line_kernel(angle) for angle in range(0, 180, 15)]
    kept = np.array([cv2.erode(bright, line).mean() for line in lines]) / (bright.mean() + 0.5)
    dark = np.array([cv2.erode(black, line).mean() for line in lines]) / (black.mean() + 0.5)
    best = int(kept.argmax())
    return {
        "streaks.most": kept.max(),
        "streaks.more": kept.max() - np.median(kept),
        "streaks.black": kept.max() - dark.max(),
        "streaks.there": kept[best] - dark[best],
        "streaks.across": np.log((kept.max() + 0.01) / (kept[(best + 6) % 12] + 0.01)),
        "streaks.upright": abs(np.cos(np.deg2rad(15 * best))) * (kept.max() - np.median(kept)),
    }


@cache
def line_kernel(angle_deg: float, length_px: int = 9) -> NDArray[np.uint8]:
    """A thin line through the middle of a square, ``angle_deg`` from the vertical."""
    half = length_px // 2
    kernel = np.zeros((length_px, length_px), np.uint8)
    angle = np.deg2rad(angle_deg)
    for step in np.linspace(-half, half, 4 * length_px):
        kernel[round(half + step * np.cos(angle)), round(half + step * np.sin(angle))] = 1
    return kernel


def of_blobs(luma: Plane, gray: Plane) -> dict[str, float]:
    """Round bright spots beside round dark ones, by size; how white they are."""
    found = {}
    square = np.ones((5, 5), np.uint8)
    fine = cv2.GaussianBlur(luma, (0, 0), 0.8)
    for size in (1, 2, 4):
        coarse = cv2.GaussianBlur(luma, (0, 0), 1.6 * size)
        bumps = fine - coarse
        limit = max(6.0, 3 * tail(np.abs(bumps), 50) / 0.6745)
        peaks = (bumps > limit) & (bumps >= cv2.dilate(bumps, square))
        pits = (bumps < -limit) & (bumps <= cv2.erode(bumps, square))
        found[f"peaks.{size}"] = np.log(1e-5 + peaks.mean())
        found[f"peaks.pits.{size}"] = np.log((peaks.sum() + 3) / (pits.sum() + 3))
        found[f"peaks.height.{size}"] = np.log(
            (bumps[peaks].mean() if peaks.any() else 0) + limit
        ) - np.log((-bumps[pits].mean() if pits.any() else 0) + limit)
        found[f"peaks.white.{size}"] = (
            float(gray[peaks].mean() - gray.mean()) / 255 if peaks.any() else 0.0
        )
        fine = coarse
    return found


RINGS = (0.03, 0.06, 0.1, 0.16, 0.24, 0.34, 0.5)  # of a period a pixel


def of_spectrum(picture: Colours) -> dict[str, float]:
    """Power by frequency and direction, and the cepstrum, in which a shake is an echo."""
    total = np.zeros((WINDOW_PX, WINDOW_PX))
    weight = np.outer(np.hanning(WINDOW_PX), np.hanning(WINDOW_PX)).astype(np.float32)
    found_any = 0
    for window in windows(picture):
        luma: NDArray[Any] = window @ LUMA
        if luma.shape != total.shape:
            rows, columns = (WINDOW_PX - side for side in luma.shape)
            luma = cv2.copyMakeBorder(luma, 0, rows, 0, columns, cv2.BORDER_REFLECT)
        waves = cv2.dft((luma - luma.mean()) * weight, flags=cv2.DFT_COMPLEX_OUTPUT)
        total += np.log(np.square(waves).sum(axis=2) + 10)
        found_any += 1
    power = total / found_any
    found, former = {}, 0.0
    for i, (ring, sector) in enumerate(rings()):
        inside = power[ring]
        mean = float(inside.mean())
        found[f"ring.{i}"] = mean - former if i else mean
        former = mean
        if i in {1, 3, 4, 5}:
            sectors = np.bincount(sector, inside) / np.bincount(sector)
            found[f"sector.most.{i}"] = sectors.max() - mean
            found[f"sector.least.{i}"] = sectors.min() - mean
    return found | of_cepstrum(power)


@cache
def rings() -> list[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
    """Frequencies of each ring of a spectrum, and in which of twelve directions they lie."""
    down, right = (np.fft.fftfreq(WINDOW_PX)[:, None], np.fft.fftfreq(WINDOW_PX)[None])
    distance, angle = np.hypot(down, right), np.mod(np.arctan2(down, right), np.pi)
    sector = np.minimum((angle // (np.pi / 12)).astype(int), 11)
    inside = [(distance >= low) & (distance < high) for low, high in pairwise(RINGS)]
    return [(ring, sector[ring]) for ring in inside]


def of_cepstrum(power: NDArray[np.float64]) -> dict[str, float]:
    """The deepest echo of the power's logarithm, alone and around a circle."""
    cepstrum = np.fft.fftshift(np.fft.ifft2(power).real)
    middle = WINDOW_PX // 2
    rows, columns = np.mgrid[:WINDOW_PX, :WINDOW_PX] - middle
    distance = np.hypot(rows, columns)
    wide = (distance >= 3) & (distance < 30)
    spread = float(cepstrum[(distance >= 30) & (distance < 60)].std()) + 1e-6
    ring = np.rint(distance).astype(int)
    circles = (np.bincount(ring.ravel(), cepstrum.ravel()) / np.bincount(ring.ravel()))[
        3:20
    ] / spread
    return {
        "echo.deepest": np.log1p(-cepstrum[wide].min() / spread),
        "echo.highest": np.log1p(cepstrum[wide].max() / spread),
        "echo.circle": np.log1p(max(0.0, -circles.min())),
        "echo.circle.at": float(np.argmin(circles)),
        "echo.spread": np.log(spread),
    }


def names() -> list[str]:
    """The measures, in the order of their names."""
    return sorted(measure(np.zeros((64, 64, 3), np.uint8)))


def as_row(measures: Mapping[str, float]) -> NDArray[np.float64]:
    """Measures as numbers, in the order of `names`."""
    return np.array([measures[name] for name in sorted(measures)])
