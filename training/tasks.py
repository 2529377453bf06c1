"""What is trained for each task: a degradation, a network and its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.degradations.rain import Rain

Degrade = Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]

COMPACT = {"dim": 16, "num_blocks": [1, 1, 2, 2], "num_refinement_blocks": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One recipe: how photographs are spoiled, and which network learns to undo it."""

    degradation: Callable[[], Degrade]  # made once a run: it may prepare material
    network: str
    options: Mapping[str, Any] = field(default_factory=lambda: dict(COMPACT))


TASKS: dict[str, Task] = {
    "derain": Task(degradation=Rain, network="hint"),
}
