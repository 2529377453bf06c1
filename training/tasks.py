"""What is trained for each task: a degradation, a network and its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restorecli.degradations.blur import MARGIN_PX, defocus_blur, motion_blur
from restorecli.degradations.darkness import darkness
from restorecli.degradations.haze import haze
from restorecli.degradations.noise import camera, gaussian
from restorecli.degradations.rain import Rain
from restorecli.degradations.snow import Snow

Degrade = Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]

# (share of the steps, patch side in pixels, batch): small patches first, they are cheaper
Phases = tuple[tuple[float, int, int], ...]
SMALL_FIRST: Phases = ((0.6, 64, 8), (0.9, 96, 6), (1.0, 160, 3))
WIDE_VIEW: Phases = ((0.7, 96, 4), (1.0, 160, 2))  # where light is judged by the scene
WHOLE_SCENE: Phases = ((0.5, 160, 2), (1.0, 256, 1))  # and the density of haze by its distances

COMPACT: dict[str, Any] = {"dim": 16, "num_blocks": [1, 1, 2, 2], "num_refinement_blocks": 1}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {  # class and options of each kind
    "hint": ("hint", COMPACT),
    "restormer": ("restormer", COMPACT),
    "glmha-text": ("glmha_restormer", {**COMPACT, "preset": "text"}),
    "glmha-table": ("glmha_restormer", {**COMPACT, "preset": "table"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One recipe: how photographs are spoiled, and which network learns to undo it."""

    degradation: Callable[[], Degrade]  # made once a run: it may prepare material
    network: str = "hint"
    options: Mapping[str, Any] = field(default_factory=lambda: dict(COMPACT))
    phases: Phases = SMALL_FIRST
    clean_share: float = 0.0  # share left as it is: what is not degraded must not change
    margin_px: int = 0  # how far outside a patch the degradation needs to see
    pair_share: float = 0.0  # share of samples from real pairs, where such are given


def blur_task(degrade: Degrade) -> Task:
    """What the tasks against blur have in common."""
    return Task(
        degradation=lambda: degrade,
        network=NETWORKS["glmha-text"][0],
        options=NETWORKS["glmha-text"][1],
        clean_share=0.08,
        margin_px=MARGIN_PX,
    )


TASKS: dict[str, Task] = {
    "derain": Task(degradation=Rain, clean_share=0.15),
    "desnow": Task(degradation=Snow, clean_share=0.15),
    "dehaze": Task(degradation=lambda: haze, phases=WHOLE_SCENE, clean_share=0.03),
    "denoise": Task(degradation=lambda: gaussian, clean_share=0.02),
    "denoise-real": Task(degradation=lambda: camera, clean_share=0.06),
    "lowlight": Task(degradation=lambda: darkness, phases=WIDE_VIEW, pair_share=0.75),
    "deblur": blur_task(motion_blur),
    "defocus": blur_task(defocus_blur),
}


def command_of(name: str) -> str:
    """What ``restore`` calls a recipe: ``denoise`` removes both kinds of noise."""
    return name.removesuffix("-real")


def task_of(name: str, network: str = "") -> Task:
    """A recipe by name, with one of ``NETWORKS`` in place of its own if ``network`` names it."""
    task = TASKS[name]
    if not network:
        return task
    kind, options = NETWORKS[network]
    return replace(task, network=kind, options=options)
