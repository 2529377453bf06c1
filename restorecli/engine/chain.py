"""Several networks, one after the other, on one picture in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike

from restorecli.engine.devices import held_bytes
from restorecli.engine.engine import Engine, ImageProgress, prepare, restore_photo
from restorecli.engine.plan import Plan
from restorecli.engine.settings import EngineSettings
from restorecli.images import Photo
from restorecli.machine.cgroups import memory_left_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Engines in the order in which a picture goes through them: one for a single task.

    Between two of them the picture has 16 bits, or float32 if it came so: the result is that of
    separate runs through such files.
    """

    engines: tuple[Engine, ...]

    @property
    def device(self) -> torch.device:
        """Where all of them compute."""
        return self.engines[0].device

    @property
    def precision_name(self) -> str:
        """As in ``--precision``; each one's where they differ."""
        names = [engine.precision_name for engine in self.engines]
        return names[0] if len(set(names)) == 1 else "+".join(names)

    def limited(self, limit: Callable[[Engine], int | None]) -> Chain:
        """The same with the most memory that each engine may use."""
        engines = tuple(replace(engine, max_bytes=limit(engine)) for engine in self.engines)
        return Chain(engines=engines)

    def plan(self, size: tuple[int, int], before: DTypeLike, after: DTypeLike) -> Plan:
        """How a picture of ``size`` would be restored now: a plan with those of later steps.

        Args:
            size: (height, width) in pixels.
            before: Type of the picture's values.
            after: Type of the result's values.

        Raises ``DeviceError`` when a step does not fit into ``max_bytes``.
        """
        types = self.types(np.dtype(before), np.dtype(after))
        plans, beside_bytes = [], 0
        for engine, dtype in zip(self.engines, types, strict=True):
            plans.append(engine.plan(size, dtype, beside_bytes=beside_bytes))
            beside_bytes = 3 * size[0] * size[1] * dtype.itemsize  # of the step before
        return replace(plans[0], further=tuple(plans[1:]))

    def room_bytes(self, plan: Plan) -> int:
        """Memory of the computer that other work may take while ``plan`` is carried out."""
        return min(self.engines[0].room_bytes(step) for step in plan.steps)

    def decoding_bytes(self) -> float:
        """Memory that decoding the next picture may take now; infinite where nothing limits it."""
        limits = [e.max_bytes for e in self.engines if e.max_bytes is not None]
        if not limits or self.device.type == "cuda":  # there it is the device's memory
            return memory_left_bytes()
        return min(max(min(limits) - held_bytes(self.device), 0), memory_left_bytes())

    def restore(
        self,
        photo: Photo,
        on_progress: ImageProgress = lambda share: None,
        *,
        dtype: DTypeLike | None = None,
        plan: Plan | None = None,
        on_step: Callable[[int, Photo], None] = lambda number, photo: None,
    ) -> tuple[Photo, Plan]:
        """Restore ``photo`` step by step; alpha and metadata are carried.

        Args:
            photo: The picture.
            on_progress: Told the share of all steps that was just done.
            dtype: Type of the result's values; by default that of the picture.
            plan: As `plan` gives it; by default that of now.
            on_step: Told the number of each step but the last, and the picture after it.
        """
        kind = np.dtype(dtype or photo.pixels.dtype)
        plan = plan or self.plan(photo.size, photo.pixels.dtype, kind)
        types = self.types(photo.pixels.dtype, kind)
        count, used = len(self.engines), []
        for number, (engine, step) in enumerate(zip(self.engines, plan.steps, strict=True)):
            photo, done = restore_photo(
                engine,
                photo,
                lambda share: on_progress(share / count),
                dtype=types[number],
                plan=step,
            )
            used.append(done)
            if number + 1 < count:
                on_step(number, photo)
        used.sort(key=lambda step: step.exact)  # what is told is the first that was cut into tiles
        return photo, replace(used[0], further=tuple(used[1:]))

    def types(self, before: np.dtype[Any], after: np.dtype[Any]) -> list[np.dtype[Any]]:
        """Type of the values after each step."""
        between = np.dtype(np.float32 if before.kind == "f" else np.uint16)
        return [between] * (len(self.engines) - 1) + [after]


def prepare_chain(settings: Sequence[EngineSettings]) -> Chain:
    """Load the networks of all steps; raises like `restorecli.engine.engine.prepare`."""
    return Chain(engines=tuple(prepare(step) for step in settings))
