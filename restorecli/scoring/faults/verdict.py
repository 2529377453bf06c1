"""What is wrong with a picture: a small network over its measures, which would rather say nothing.

The numbers in ``faults.json`` were fitted on photographs spoiled on purpose: `training.faults`.
A fault is named only above a limit that one in several hundred good photographs reaches; a little
below that it is told as a doubt, and nothing is recommended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from restorecli.scoring.faults.measures import measure

TASKS = {  # what mends each fault, in the order in which they are looked at
    "rain": "derain",
    "snow": "desnow",
    "haze": "dehaze",
    "noise": "denoise",
    "dark": "lowlight",
    "motion": "deblur",
    "defocus": "defocus",
}
FAULTS = tuple(TASKS)
NUMBERS = "faults.json"
FARTHEST = 4.0  # standard deviations: a measure beyond that says no more than one there


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One hidden layer: measures → chances."""

    measures: tuple[str, ...]
    mean: NDArray[np.float64]  # (M,)
    scale: NDArray[np.float64]  # (M,)
    first: NDArray[np.float64]  # (M, H)
    first_bias: NDArray[np.float64]  # (H,)
    second: NDArray[np.float64]  # (H, faults)
    second_bias: NDArray[np.float64]  # (faults,)
    limits: Mapping[str, float]  # of the chance, from which a fault is named
    doubts: Mapping[str, float]  # from which it is doubted

    def chances(self, measured: Mapping[str, float]) -> dict[str, float]:
        """How likely each fault is, from 0 to 1."""
        x = np.array([measured[name] for name in self.measures])
        x = np.clip((x - self.mean) / self.scale, -FARTHEST, FARTHEST)
        y = np.tanh(x @ self.first + self.first_bias) @ self.second + self.second_bias
        return dict(zip(FAULTS, (1 / (1 + np.exp(-y))).tolist(), strict=True))

    def decided(self, chances: Mapping[str, float], measured: Mapping[str, float]) -> Verdict:
        """The fault that is farthest above its limit, or the doubt that is left."""
        fault = farthest_above(chances, self.limits)
        perhaps = None if fault else farthest_above(chances, self.doubts)
        return Verdict(chances=chances, measures=measured, fault=fault, perhaps=perhaps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found in a picture."""

    chances: Mapping[str, float]  # of each fault
    measures: Mapping[str, float]
    fault: str | None  # the one to mend; ``None``: nothing to do, or not sure
    perhaps: str | None  # a fault that may be there, but not surely enough

    @property
    def task(self) -> str | None:
        """What mends the fault."""
        return TASKS[self.fault] if self.fault else None

    @property
    def noise_sigma(self) -> float:
        """σ of its noise where it is smoothest, of 255: an estimate."""
        return max(0.0, float(np.exp(self.measures["flat.luma.1.mid"])) - 0.05)

    @property
    def dark_channel(self) -> float:
        """Mean of its dark channel, from 0 to 1: haze raises it."""
        return self.measures["dark.mean"] / 255

    @property
    def light(self) -> float:
        """Mean luma, from 0 to 1."""
        return self.measures["luma"] / 255

    @property
    def sharpness(self) -> float:
        """Variance of the Laplacian in its sharpest part."""
        return float(np.exp(self.measures["laplacian.high"])) - 1


@cache
def network() -> Network:
    """The one that ships."""
    return from_json(resources.files(__package__).joinpath(NUMBERS).read_text(encoding="utf-8"))


def from_json(text: str) -> Network:
    """A network as `training.faults` writes it."""
    data = json.loads(text)
    arrays = {
        name: np.array(data[name])
        for name in ("mean", "scale", "first", "first_bias", "second", "second_bias")
    }
    return Network(
        measures=tuple(data["measures"]), limits=data["limits"], doubts=data["doubts"], **arrays
    )


def judge(pixels: NDArray[np.uint8]) -> Verdict:
    """What is wrong with (H, W, 3) RGB or (H, W) gray, as it is seen."""
    measured = measure(pixels)
    return network().decided(network().chances(measured), measured)


def farthest_above(chances: Mapping[str, float], limits: Mapping[str, float]) -> str | None:
    """The fault whose odds exceed those of its limit most, if any does."""
    above = {name: odds(chances[name]) - odds(limits[name]) for name in FAULTS}
    best = max(FAULTS, key=above.__getitem__)
    return best if above[best] >= 0 else None


def odds(chance: float) -> float:
    """Logarithm of chance to no chance."""
    chance = min(max(chance, 1e-9), 1 - 1e-9)
    return float(np.log(chance / (1 - chance)))
