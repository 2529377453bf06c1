"""Falling snow on a clean photograph.

Image formation (Liu et al., DesnowNet: Context-Aware Deep Network for Snow Removal, TIP 2018):
K = C·z + J·(1 − z), where z is the opacity of the flakes and C their colour, near white and
slightly different from place to place; a veil of flakes too far to be seen lies over it as haze.
Flakes are small, medium and large by distance; each is an irregular blob, smeared along its fall.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from restorecli.degradations.common import Half, Image, Plane, scattered, smooth_field

MAPS, MAP_PX = 320, 400
WIDE_SHARE = 0.25  # of the maps: flakes of any size and sharpness


@dataclass(frozen=True, slots=True)
class Flakes:
    """One layer of flakes at about one distance; lengths in pixels, opacity in [0, 1]."""

    radius_px: float
    motion_px: float  # way fallen during the exposure
    soft_px: float  # softness of the outline: more when out of focus
    angle_deg: float  # of the fall, from the vertical
    per_pixel: float
    opacity: float


class Snow:
    """Adds snow to photographs; opacity maps are drawn once and cropped, as for rain."""

    def __init__(self, seed: int = 0, *, maps: int = MAPS) -> None:
        self.seed = seed
        self.maps: list[Half | None] = [None] * maps

    def __call__(self, clean: Image, rng: np.random.Generator) -> Image:
        """Snow on ``clean``: (H, W, 3) float32 in [0, 1] → the same."""
        return cover(clean, self._window((clean.shape[0], clean.shape[1]), rng), rng)

    def _map(self, index: int) -> Half:
        """One of the maps, (``MAP_PX``, ``MAP_PX``)."""
        drawn = self.maps[index]
        if drawn is None:
            rng = np.random.default_rng((self.seed, index))
            draw = wide_snow_map if rng.random() < WIDE_SHARE else snow_map
            self.maps[index] = drawn = draw((MAP_PX, MAP_PX), rng).astype(np.float16)
        return drawn

    def _window(self, shape: tuple[int, int], rng: np.random.Generator) -> Plane:
        """A random window of a random map: (H, W) float32 in [0, 1]."""
        if max(shape) > MAP_PX:
            raise ValueError(f"snow maps are {MAP_PX} px wide, got a patch of {shape}")
        whole = self._map(int(rng.integers(len(self.maps))))
        top, left = (int(rng.integers(0, MAP_PX - side + 1)) for side in shape)
        window = whole[top : top + shape[0], left : left + shape[1]].astype(np.float32)
        if rng.random() < 0.5:
            window = window[:, ::-1]
        return np.ascontiguousarray(np.rot90(window, 2 * int(rng.random() < 0.2)))


def cover(clean: Image, opacity: Plane, rng: np.random.Generator) -> Image:
    """``clean`` (H, W, 3) behind flakes of ``opacity`` (H, W), and perhaps behind a veil."""
    z = opacity[..., None]
    colour = np.clip(rng.uniform(0.8, 1) + rng.normal(0, 0.015, 3), 0, 1).astype(np.float32)
    if rng.random() < 0.5:
        veil = np.float32(rng.uniform(0, 0.3)) * smooth_field(opacity.shape, 0.4, 1, rng)
        clean = clean + veil[..., None] * (colour - clean)
    return np.clip(clean + z * (colour - clean), 0, 1)


def snow_map(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Opacity of the snow: (H, W) float32 in [0, 1]."""
    wind = float(rng.normal(0, 25))
    crowd = math.exp(rng.uniform(math.log(0.3), math.log(2.5)))
    clear = np.ones(shape, np.float32)  # what still shows through
    scales = [kind for kind, chance in (("small", 0.9), ("medium", 0.8), ("large", 0.45))
              if rng.random() < chance]  # fmt: skip
    for scale in scales or ["medium"]:
        for layer in random_layers(scale, wind, crowd, rng):
            clear *= 1 - render(layer, shape, rng)
    return 1 - clear


def wide_snow_map(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Opacity of snow with flakes from 1 to 30 px, sharp or defocused, opaque or not: (H, W)."""
    wind = float(rng.normal(0, 35))
    crowd = math.exp(rng.uniform(math.log(0.3), math.log(2.5)))
    clear = np.ones(shape, np.float32)
    for _ in range(int(rng.integers(2, 6))):
        radius = math.exp(rng.uniform(math.log(0.5), math.log(15)))
        defocused = rng.random() < 0.4
        layer = Flakes(
            radius_px=radius,
            motion_px=radius * float(rng.uniform(0, 5)) if rng.random() < 0.5 else 0.0,
            soft_px=float(rng.uniform(0.6, 1.1) + (radius * rng.uniform(0.5, 1.2)) * defocused),
            angle_deg=wind + float(rng.normal(0, 8)),
            per_pixel=crowd * float(rng.uniform(0.2, 1)) * 0.02 / (radius + 0.5) ** 1.95,
            opacity=float(rng.uniform(0.15, 1)),
        )
        clear *= 1 - render(layer, shape, rng)
    return 1 - clear


def random_layers(
    scale: str, wind_deg: float, crowd: float, rng: np.random.Generator
) -> list[Flakes]:
    """One to three layers of a scale."""
    low, high = {"small": (0.5, 1.6), "medium": (1.5, 4), "large": (3.5, 9)}[scale]
    layers = []
    for _ in range(int(rng.integers(1, 4))):
        radius = float(rng.uniform(low, high))
        moves = rng.random() < 0.5
        motion = radius * float(rng.uniform(0.5, 4)) if moves else 0.0
        layers.append(
            Flakes(
                radius_px=radius,
                motion_px=motion,
                soft_px=float(rng.uniform(0.7, 1.2) + radius * rng.uniform(0, 0.7)),
                angle_deg=wind_deg + float(rng.normal(0, 8)),
                per_pixel=crowd * float(rng.uniform(0.2, 1)) * 0.02 / (radius + 0.5) ** 1.9,
                opacity=float(rng.uniform(0.35, 1)),
            )
        )
    return layers


def render(layer: Flakes, shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Opacity of one layer: a few flake shapes, stamped at random: (H, W) in [0, 1]."""
    total = np.zeros(shape, np.float32)
    variants = 4
    for _ in range(variants):
        drawn = scattered(
            flake(layer, rng),
            layer.per_pixel / variants,
            shape,
            lambda number: rng.uniform(0.4, 1, number),
            rng,
        )
        total = np.maximum(total, drawn)
    return np.minimum(layer.opacity * total, 1)


def flake(layer: Flakes, rng: np.random.Generator) -> Plane:
    """One flake: (2r+1, 2r+1) float32 in [0, 1], an irregular blob smeared along its fall."""
    radius = layer.radius_px * float(rng.uniform(0.7, 1.4))
    angle = math.radians(layer.angle_deg + float(rng.normal(0, 6)))
    reach = math.ceil(radius * 1.4 + layer.motion_px / 2 + layer.soft_px) + 1
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    rows += rng.uniform(-0.5, 0.5)
    columns += rng.uniform(-0.5, 0.5)
    along = rows * math.cos(angle) + columns * math.sin(angle)
    across = columns * math.cos(angle) - rows * math.sin(angle)
    along = np.sign(along) * np.maximum(np.abs(along) - layer.motion_px / 2, 0)
    bearing = np.arctan2(along, across)
    outline = radius * sum(
        (
            rng.uniform(0, 0.25 / n) * np.cos(n * bearing + rng.uniform(0, 2 * math.pi))
            for n in (2, 3, 5)
        ),
        start=np.ones_like(bearing),
    )
    shape = np.clip((outline - np.hypot(along, across)) / layer.soft_px + 0.5, 0, 1)
    shape = shape * shape * (3 - 2 * shape)
    smear = 1 / (1 + layer.motion_px / (2.5 * radius))  # light spread over the way is thinner
    return np.ascontiguousarray(shape * smear, dtype=np.float32)
