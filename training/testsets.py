"""The test sets: real pairs from folders, and pairs made of clean photographs.

Made pairs are drawn from one generator seeded with 0, picture after picture by name, so that they
are the same pixels whenever the same photographs lie in the folder. Figures are compared over
years: whoever changes what a set is made of gives it another name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from restorecli.degradations.blur import aperture, defocus_blur
from restorecli.degradations.common import Image, Plane, from_linear, to_linear
from restorecli.degradations.snow import cover, snow_map
from training.data import load_photographs

Levels = NDArray[np.uint8]  # (H, W, 3), RGB
Degrade = Callable[[Image, np.random.Generator], Image]

CLEAN = "denoise_gauss/target"  # CBSD68
TURNED_SUFFIX = ", turned by 90°"
GENTLE_PX = (0.3, 0.6)  # blur of a photograph that is nearly sharp


def white_noise(sigma: float) -> Degrade:
    """Noise of ``sigma`` of 255 levels, clipped, as a file holds it."""
    return lambda clean, rng: clean + (sigma / 255 * rng.standard_normal(clean.shape)).astype("f4")


def snowfall(clean: Image, rng: np.random.Generator) -> Image:
    """Snow of the training's kind, drawn anew."""
    return cover(clean, snow_map((clean.shape[0], clean.shape[1]), rng), rng)


def gentle_blur(clean: Image, rng: np.random.Generator) -> Image:
    """So little blur, in linear light, that a photograph still looks sharp."""
    sigma = float(rng.uniform(*GENTLE_PX))
    soft = cv2.GaussianBlur(to_linear(clean), (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return from_linear(soft.astype(np.float32, copy=False))


def nothing(clean: Image, rng: np.random.Generator) -> Image:
    """A photograph that is not degraded."""
    return clean


def aperture_of(rng: np.random.Generator) -> Plane:
    """The kernel that `defocus_blur` is about to draw from ``rng``: (k, k), sum 1.

    Where that puts a part of the picture into better focus, the kernel is true for the rest only.
    """
    blades = int(rng.integers(5, 10)) if rng.random() < 0.5 else 0
    turn = float(rng.uniform(0, np.pi))
    return aperture(float(rng.uniform(0.7, 7)), blades, turn)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSet:
    """Pictures and how they are scored; made from clean ones where ``degrade`` is given."""

    task: str
    name: str
    protocol: str
    folder: str = CLEAN  # below that of all sets
    degrade: Degrade | None = None
    kernel: Callable[[np.random.Generator], Plane] | None = None  # what ``degrade`` blurs with
    sigma: float | None = None  # of the noise that ``degrade`` adds, in levels of 255
    model: str = ""  # id; the default of the task if empty
    quarter_turns: int = 0
    names: frozenset[str] = frozenset()  # files of the folder that count; empty: all

    @property
    def is_clean(self) -> bool:
        """Whether nothing is to be undone: the result ought to be the input."""
        return self.degrade is nothing

    def turned(self) -> TestSet:
        """The same pictures turned by 90°."""
        return replace(self, name=f"{self.name}{TURNED_SUFFIX}", quarter_turns=1)


SETS = (
    TestSet(task="derain", name="Rain12", protocol="rain", folder="derain"),
    TestSet(task="derain", name="Rain100H, 12 pairs", protocol="rain", folder="derain_heavy"),
    *(
        TestSet(
            task="denoise",
            name=f"CBSD68, σ {s}",
            protocol="denoise",
            degrade=white_noise(s),
            sigma=s,
            model="",
        )
        for s in (15, 25, 50)
    ),
    TestSet(task="denoise", name="PolyU, 40 crops", protocol="denoise", folder="denoise"),
    TestSet(task="dehaze", name="SOTS indoor, 10 pairs", protocol="sots", folder="dehaze"),
    TestSet(task="lowlight", name="8 real pairs", protocol="lol", folder="lowlight"),
    TestSet(task="deblur", name="5 pairs of motion", protocol="rgb", folder="motion_deblur"),
    TestSet(task="deblur", name="CBSD68, nearly sharp", protocol="rgb", degrade=gentle_blur),
    TestSet(task="desnow", name="CBSD68, synthetic snow", protocol="rgb", degrade=snowfall),
    TestSet(
        task="defocus",
        name="CBSD68, synthetic defocus",
        protocol="rgb",
        degrade=defocus_blur,
        kernel=aperture_of,
    ),
    TestSet(task="defocus", name="8 focus planes, Lytro", protocol="rgb", folder="defocus_pseudo"),
)
HARMLESS = ("derain", "desnow", "denoise", "deblur", "defocus")  # must leave good photographs alone


def undegraded(task: str, folder: str, name: str, names: Iterable[str] = ()) -> TestSet:
    """Photographs that ``task`` has nothing to do on: all of a folder, or those of ``names``."""
    return TestSet(
        task=task,
        name=name,
        protocol="rgb",
        folder=folder,
        degrade=nothing,
        names=frozenset(names),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One picture of a set: uint8 RGB (H, W, 3) twice, and the blur's kernel where it is known."""

    degraded: Levels
    clean: Levels
    kernel: Plane | None = None


def pairs_of(chosen: TestSet, data: Path, limit: int | None = None) -> list[Pair]:
    """The pictures of a set below ``data``; of many only ``limit``, spread evenly by name.

    Raises ``SystemExit`` when the folder holds none, or inputs and targets that do not correspond.
    """
    folder = data / chosen.folder
    if chosen.degrade is None:
        degraded, clean = (load_photographs(folder / part) for part in ("input", "target"))
        if [p.shape for p in degraded] != [p.shape for p in clean]:
            raise SystemExit(f"The pictures of {folder}/input and {folder}/target must correspond.")
        pairs = [Pair(degraded=d, clean=c) for d, c in zip(degraded, clean, strict=True)]
    else:
        pairs = made(chosen, chosen_photographs(folder, chosen.names))
    return [turned(pair, chosen.quarter_turns) for pair in spread(pairs, limit)]


def chosen_photographs(folder: Path, names: frozenset[str]) -> list[Levels]:
    """The pictures of ``folder``, or those of ``names`` in it, by name.

    Raises ``SystemExit`` when none of them is there.
    """
    if not names:
        return load_photographs(folder)
    decoded = [cv2.imread(str(folder / name)) for name in sorted(names)]
    found = [np.ascontiguousarray(p[..., ::-1], np.uint8) for p in decoded if p is not None]
    if not found:
        raise SystemExit(f"None of the {len(names)} pictures named lies in {folder}.")
    return found


def made(chosen: TestSet, photographs: Sequence[Levels]) -> list[Pair]:
    """Degraded ``photographs``, rounded to 8 bits as a file holds them."""
    assert chosen.degrade is not None
    rng = np.random.default_rng(0)
    pairs = []
    for levels in photographs:
        kernel = chosen.kernel(copy_of(rng)) if chosen.kernel else None
        degraded = chosen.degrade(levels.astype(np.float32) / np.float32(255), rng)
        rounded = np.round(np.clip(degraded, 0, 1) * 255).astype(np.uint8)
        pairs.append(Pair(degraded=rounded, clean=levels, kernel=kernel))
    return pairs


def copy_of(rng: np.random.Generator) -> np.random.Generator:
    """A generator that will draw what ``rng`` will draw."""
    twin = np.random.default_rng()
    twin.bit_generator.state = rng.bit_generator.state
    return twin


def spread(pairs: Sequence[Pair], limit: int | None) -> list[Pair]:
    """At most ``limit`` of ``pairs``, evenly apart."""
    if limit is None or limit >= len(pairs):
        return list(pairs)
    return [pairs[i * len(pairs) // limit] for i in range(limit)]


def turned(pair: Pair, quarter_turns: int) -> Pair:
    """``pair`` turned counter-clockwise; a turned set knows no kernel."""
    if not quarter_turns:
        return pair
    degraded, clean = (
        np.ascontiguousarray(np.rot90(levels, quarter_turns))
        for levels in (pair.degraded, pair.clean)
    )
    return Pair(degraded=degraded, clean=clean)


def digest(pairs: Sequence[Pair]) -> str:
    """sha256 of all pixels: two figures compare only where it is the same."""
    state = hashlib.sha256()
    for pair in pairs:
        for levels in (pair.degraded, pair.clean):
            state.update(str(levels.shape).encode() + np.ascontiguousarray(levels).tobytes())
    return state.hexdigest()
