"""What is trained for each task: a degradation, a network and its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from restorecli.degradations.blur import FAR_MARGIN_PX, MARGIN_PX, any_defocus, any_motion
from restorecli.degradations.common import Degrade, Image, MakePair
from restorecli.degradations.darkness import night
from restorecli.degradations.haze import haze_and_sky, looks_hazy
from restorecli.degradations.noise import any_noise
from restorecli.degradations.rain import Rain
from restorecli.degradations.snow import Snow
from training.spared import spared

# Half the pixels a side and twice the channels of a network on single pixels: the same cost, four
# times the parameters.
COMPACT: dict[str, Any] = {
    "dim": 32,
    "num_blocks": [1, 1, 2, 2],
    "num_refinement_blocks": 1,
    "packing": 2,
}
# The same channels go to the same heads in every picture: what comes out depends continuously on
# what goes in, so bfloat16 and float32 differ by rounding only.
HINT: dict[str, Any] = {**COMPACT, "sort_channels": False}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {  # class and options of each kind
    "hint": ("hint", HINT),
    "hint-affine": ("hint", {**HINT, "head": "affine"}),
    "hint-exposure": ("hint", {**HINT, "front": "exposure"}),
    "restormer": ("restormer", COMPACT),
    "glmha-text": ("glmha_restormer", {**COMPACT, "preset": "text"}),
    "glmha-table": ("glmha_restormer", {**COMPACT, "preset": "table"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One recipe: how photographs are spoiled, and which network learns to undo it."""

    degradation: Callable[[], Degrade | MakePair]  # made once a run: it may prepare material
    network: str = NETWORKS["hint"][0]
    options: Mapping[str, Any] = field(default_factory=lambda: dict(HINT))
    clean_share: float = 0.0  # share left as it is: what is not degraded must not change
    spared: Degrade | None = None  # makes of such a one what only looks degraded
    margin_px: int = 0  # how far outside a patch the degradation needs to see
    pair_share: float = 0.0  # share of samples from real pairs, where such are given
    scene: bool = False  # samples show most of a photograph, shrunk
    unsuitable: Callable[[Image], bool] | None = None  # photographs that teach what is wrong
    smoothness: float = 0.0  # weight of the total variation of an affine head's maps
    in_use: Mapping[str, Any] = field(default_factory=dict)  # options that training does without


def of_network(kind: str, **settings: Any) -> Task:
    """A task for one of ``NETWORKS``."""
    network, options = NETWORKS[kind]
    return Task(network=network, options=options, **settings)


TASKS: dict[str, Task] = {
    "derain": Task(degradation=Rain, clean_share=0.15, spared=spared),
    "desnow": Task(degradation=Snow, clean_share=0.12, spared=spared),
    "dehaze": of_network(
        "hint-affine",
        degradation=lambda: haze_and_sky,
        clean_share=0.06,
        scene=True,
        unsuitable=looks_hazy,
        smoothness=0.01,
        in_use={"guided_radius": 48},
    ),
    "denoise": Task(degradation=lambda: any_noise, clean_share=0.03),
    "lowlight": of_network("hint-exposure", degradation=lambda: night, scene=True, pair_share=0.5),
    "deblur": Task(
        degradation=lambda: any_motion,
        clean_share=0.1,
        spared=spared,
        margin_px=FAR_MARGIN_PX,
        pair_share=0.1,
    ),
    "defocus": of_network(
        "glmha-text", degradation=lambda: any_defocus, clean_share=0.06, margin_px=MARGIN_PX
    ),
}


def task_of(name: str, network: str = "") -> Task:
    """A recipe by name, with one of ``NETWORKS`` in place of its own if ``network`` names it."""
    task = TASKS[name]
    if not network:
        return task
    kind, options = NETWORKS[network]
    return replace(task, network=kind, options=options)
