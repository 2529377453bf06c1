"""Rain streaks on a clean photograph, in any direction: a phone may have been held flat.

Image formation: O = clip(B + S) (Li et al., Rain Streak Removal Using Layer Priors, CVPR 2016) or
the screen blend O = 1 − (1 − B)(1 − S), where S is a sum of streak layers. A streak is the path of
a drop during the exposure (Garg and Nayar, Vision and Rain, IJCV 2007): near drops make few, long,
wide and soft streaks, far drops many short, thin and faint ones, nearly parallel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from restorecli.degradations.common import Half, Image, Plane, scattered

MAPS, MAP_PX = 480, 400
HEAVY_SHARE = 0.25  # of ordinary rain
DOWNPOUR_SHARE = 0.3  # of all maps: rain that covers most of the picture
SIDEWAYS_SHARE = 0.2  # of all samples: the map is turned by a multiple of 90°
SCREEN_SHARE = 0.3  # the rest is added


@dataclass(frozen=True, slots=True)
class Streaks:
    """One layer of drops at about one distance; lengths in pixels, strengths in [0, 1]."""

    width_px: float
    length_px: float
    blur_px: float  # softness of the edge: about 1 in focus, more out of focus
    angle_deg: float  # from the vertical
    per_pixel: float  # drops per pixel
    strength: float


class Rain:
    """Adds rain to photographs: streak maps are drawn once, then cropped, mirrored and turned.

    A map costs a hundred times what a patch of it costs, and ``MAPS`` of them in random position,
    direction and strength repeat nothing that a network could learn by heart. Each is drawn when it
    is first asked for, from its own seed.
    """

    def __init__(self, seed: int = 0, *, maps: int = MAPS) -> None:
        self.seed = seed
        self.maps: list[Half | None] = [None] * maps

    def __call__(self, clean: Image, rng: np.random.Generator) -> Image:
        """Rain on ``clean``: (H, W, 3) float32 in [0, 1] → the same."""
        streaks = self._window(clean.shape[:2], rng) * np.float32(rng.uniform(0.6, 1.25))
        if rng.random() < SCREEN_SHARE:
            return 1 - (1 - clean) * (1 - np.minimum(streaks, 1))
        return np.clip(clean + streaks, 0, 1)

    def _map(self, index: int) -> Half:
        """One of the maps, (``MAP_PX``, ``MAP_PX``)."""
        drawn = self.maps[index]
        if drawn is None:
            rng = np.random.default_rng((self.seed, index))
            draw = downpour_map if rng.random() < DOWNPOUR_SHARE else streak_map
            self.maps[index] = drawn = draw((MAP_PX, MAP_PX), rng).astype(np.float16)
        return drawn

    def _window(self, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
        """A random window of a random map: (H, W, 1) float32."""
        height, width = shape
        if max(shape) > MAP_PX:
            raise ValueError(f"rain maps are {MAP_PX} px wide, got a patch of {shape}")
        whole = self._map(int(rng.integers(len(self.maps))))
        if rng.random() < SIDEWAYS_SHARE:
            whole = np.rot90(whole, int(rng.integers(1, 4)))
        top, left = (int(rng.integers(0, MAP_PX - side + 1)) for side in shape)
        window = whole[top : top + height, left : left + width].astype(np.float32)
        if rng.random() < 0.5:
            window = window[:, ::-1]
        return window[..., None]


def streak_map(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Brightness that rain adds: (H, W) float32, not negative."""
    heavy = rng.random() < HEAVY_SHARE
    wind = float(rng.normal(0, 12)) if rng.random() < 0.7 else float(rng.uniform(-45, 45))
    total = np.zeros(shape, np.float32)
    for layer in random_layers(rng, wind, heavy=heavy):
        total += render(layer, shape, rng)
    if rng.random() < 0.4:  # gusts, or a background too bright for rain to show
        total *= smooth_field(shape, rng)
    return total


def downpour_map(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Brightness that a downpour adds: (H, W) float32, not negative; half of it covered and more.

    Layers of long, sharp streaks of nearly equal brightness whose directions differ a little, or
    curtains: streaks so long that they cross the picture, and run into one another.
    """
    wind = float(rng.normal(0, 18)) if rng.random() < 0.7 else float(rng.uniform(-50, 50))
    spread = float(rng.choice([3, 9, 18]))
    cover = float(rng.uniform(0.15, 1.3))  # mean number of streaks over a pixel
    number = int(rng.integers(2, 7))
    gain = float(rng.uniform(0.3, 1.2))
    curtains = rng.uniform(0, 1) if rng.random() < 0.6 else 0.0  # their share of the layers
    total = np.zeros(shape, np.float32)
    for _ in range(number):
        angle = float(np.clip(wind + rng.normal(0, spread), -80, 80))
        strength = gain * float(rng.uniform(0.2, 0.9))
        if rng.random() < curtains:
            total += strength * curtain(shape, angle, min(0.7, 2 * cover / number), rng)
            continue
        width = float(rng.uniform(1, 4.5))
        length = float(np.exp(rng.uniform(np.log(14), np.log(110))))
        layer = Streaks(
            width_px=width,
            length_px=length,
            blur_px=float(rng.uniform(0.6, 1.1) if rng.random() < 0.8 else rng.uniform(1, 2)),
            angle_deg=angle,
            per_pixel=cover / number * float(rng.uniform(0.5, 1.5)) / (width * length),
            strength=strength,
        )
        total += render(layer, shape, rng)
    return total


def curtain(
    shape: tuple[int, int], angle_deg: float, cover: float, rng: np.random.Generator
) -> Plane:
    """Streaks without ends in sight: noise, blurred along the fall and cut off: (H, W) in [0, 1].

    ``cover`` is the share of the plane that they cover.
    """
    side = int(math.hypot(*shape)) + 8
    along, across = float(np.exp(rng.uniform(np.log(8), np.log(120)))), float(rng.uniform(0.4, 2.2))
    noise = rng.standard_normal((side, side), np.float32)
    field = cv2.GaussianBlur(noise, (0, 0), sigmaX=across, sigmaY=along)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), angle_deg, 1)
    turn[0, 2] -= (side - shape[1]) / 2
    turn[1, 2] -= (side - shape[0]) / 2
    field = cv2.warpAffine(field, turn, shape[::-1], borderMode=cv2.BORDER_REFLECT)
    start, end = np.quantile(field, [1 - cover, 1 - cover * float(rng.uniform(0.1, 0.9))])
    return np.clip((field - start) / max(float(end - start), 1e-6), 0, 1).astype(np.float32)


def random_layers(rng: np.random.Generator, wind_deg: float, *, heavy: bool) -> list[Streaks]:
    """Layers of all distances; heavy rain is denser, brighter and may cross itself."""
    gain = float(rng.uniform(0.7, 1.5) if heavy else rng.uniform(0.35, 1.3))
    crowd = float(
        rng.uniform(0.7, 3) if heavy else math.exp(rng.uniform(math.log(0.15), math.log(2)))
    )
    crossed = heavy and rng.random() < 0.5
    stretch = math.exp(rng.uniform(math.log(0.5), math.log(2.2)))  # exposure time
    layers = []
    for _ in range(int(rng.integers(3, 8))):
        nearness = float(rng.random() ** 1.5)  # 0 far … 1 near; most drops are far
        width = 0.5 + 3.6 * nearness**1.5 + float(rng.uniform(0, 0.8))
        length = (8 + 60 * nearness) * stretch * float(rng.uniform(0.7, 1.3))
        in_focus = rng.random() < 0.65
        angle = wind_deg + float(rng.normal(0, 25 if crossed else 2.5))
        layers.append(
            Streaks(
                width_px=width,
                length_px=length,
                blur_px=float(rng.uniform(0.7, 1.2) if in_focus else rng.uniform(1.2, 1 + width)),
                angle_deg=float(np.clip(angle, -60, 60)),
                per_pixel=crowd * float(rng.uniform(0.2, 1.4)) * 0.05 / (width * length) ** 0.9,
                strength=gain * float(rng.uniform(0.1, 0.45)) * (0.7 + 0.6 * nearness),
            )
        )
    return layers


def render(layer: Streaks, shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Draw one layer: a few streak shapes, each stamped at random places with random strength."""
    total = np.zeros(shape, np.float32)
    variants = 3
    for _ in range(variants):
        total += scattered(
            streak(layer, rng),
            layer.per_pixel / variants,
            shape,
            lambda number: rng.gamma(2.5, 0.4, number),  # mean 1, few bright ones
            rng,
        )
    return layer.strength * total


def streak(layer: Streaks, rng: np.random.Generator) -> Plane:
    """One streak: (2r+1, 2r+1) float32, peak about 1, at a random sub-pixel offset.

    Across, a box of the width with soft edges; along, soft ends and a slight ripple, because a
    falling drop oscillates (Garg and Nayar, Photorealistic Rendering of Rain Streaks, 2006).
    """
    width = layer.width_px * float(rng.uniform(0.8, 1.2))
    length = layer.length_px * float(rng.uniform(0.6, 1.4))
    angle = math.radians(layer.angle_deg + float(rng.normal(0, 1.2)))
    reach = math.ceil(length / 2 + width + layer.blur_px) + 1
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    rows += rng.uniform(-0.5, 0.5)
    columns += rng.uniform(-0.5, 0.5)
    along = rows * math.cos(angle) + columns * math.sin(angle)
    across = columns * math.cos(angle) - rows * math.sin(angle)
    softness = layer.blur_px
    profile = np.clip((width / 2 - np.abs(across)) / softness + 0.5, 0, 1)
    if softness > 1.2:
        profile = profile * profile * (3 - 2 * profile)  # smooth step: out of focus
    taper = softness + float(rng.uniform(0, 0.35)) * length
    ends = np.clip((length / 2 - np.abs(along)) / taper + 0.5, 0, 1)
    ripple = 1 + float(rng.uniform(0, 0.25)) * np.sin(
        along * (2 * math.pi / rng.uniform(3, 25)) + rng.uniform(0, 2 * math.pi)
    )
    return np.ascontiguousarray(profile * ends * ripple, dtype=np.float32)


def smooth_field(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Slowly varying factor: (H, W) float32 in [0, 1.5]."""
    coarse = rng.uniform(0.1, 1.5, (int(rng.integers(2, 5)), int(rng.integers(2, 5))))
    field = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return field.astype(np.float32)
