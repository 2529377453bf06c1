"""What the page may do, as data: no torch and no server library here."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from restorecli.engine.settings import EngineSettings
from restorecli.images import FileOptions
from restorecli.runs.job import Step, label
from restorecli.weights import TASKS, WeightEntry, choose_model, registry

CHECK = "check"  # in the place of a task: say what is wrong, change nothing
WHOLE = 1.0  # strength at which nothing of the original is left


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is taken from a browser; what is more is refused with one sentence."""

    file_bytes: int = 250_000_000
    pixels: int = 150_000_000
    photos: int = 200  # that stand on the page at one time


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the page is, where results go, and how they are made."""

    folder: Path  # of results
    host: str = "127.0.0.1"  # an address
    port: int | None = None  # ``None``: the usual one, or any that is free
    limits: Limits = field(default_factory=Limits)
    files: FileOptions = field(default_factory=FileOptions)
    device: str = "auto"
    max_bytes: int | None = None
    threads: int | None = None

    @property
    def is_private(self) -> bool:
        """Whether this machine alone can reach the page."""
        return ipaddress.ip_address(self.host).is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be done with a photograph: one task, or several in their order."""

    tasks: tuple[str, ...]
    models: tuple[str, ...]  # ids of installed networks, one for each task
    strength: float = WHOLE  # of each task

    def steps(self, settings: Settings) -> tuple[Step, ...]:
        """The networks that are wished for, on the device that was chosen at the start."""
        return tuple(
            Step(
                task=task,
                engine=EngineSettings(
                    model=choose_model(task, model),
                    device=settings.device,
                    max_bytes=settings.max_bytes,
                    threads=settings.threads,
                    strength=self.strength,
                ),
            )
            for task, model in zip(self.tasks, self.models, strict=True)
        )

    @property
    def is_check(self) -> bool:
        """Whether nothing is to be done but to say what is wrong."""
        return self.tasks == (CHECK,)

    @property
    def label(self) -> str:
        """What names of results call it: its tasks, and its strength where that is not all."""
        strength = "" if self.strength == WHOLE else f"-{round(self.strength * 100)}"
        return f"{label(self.tasks)}{strength}"


def networks(task: str) -> list[WeightEntry]:
    """Networks of ``task`` that are on this machine, the default one first."""
    default = registry().default(task)
    others = [e for e in registry().values() if task in e.tasks and e.is_installed]
    return [default, *(entry for entry in others if entry.id != default.id)]


def offers() -> dict[str, list[WeightEntry]]:
    """Every task, and the networks that can be chosen for it."""
    return {task: networks(task) for task in TASKS}
