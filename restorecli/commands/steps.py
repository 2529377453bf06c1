"""Tasks in a row: what is asked for of each, from options such as ``derain=0.5,denoise=1``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from restorecli.commands.options import Asked
from restorecli.commands.restore import TASKS
from restorecli.errors import UsageError

OF_EACH = ("model", "weights", "strength")  # options that may differ from task to task


def parse_tasks(text: str, option: str = "--task") -> tuple[str, ...]:
    """``derain,denoise`` → its tasks in their order, each one once."""
    tasks = tuple(part.strip() for part in text.split(","))
    for number, task in enumerate(tasks):
        if task not in TASKS:
            near = difflib.get_close_matches(task.lower(), TASKS, n=1)
            meant = f"Did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"{option} {text!r}: {task!r} is no task.",
                hint=f"{meant}Known: {', '.join(TASKS)}; several are parted by commas.",
            )
        if task in tasks[:number]:
            raise UsageError(f"{option} {text!r} names {task} twice.", hint="Give each task once.")
    return tasks


def each(tasks: Sequence[str], options: Mapping[str, Any]) -> list[tuple[str, Asked]]:
    """What is asked for of each task; ``options`` are those of a command."""
    models = parse_each("--model", options["model"], tasks)
    weights = parse_each("--weights", options["weights"], tasks)
    strengths = parse_each("--strength", options["strength"], tasks, for_all=True)
    known = {field.name for field in fields(Asked)} - set(OF_EACH)
    shared = {name: value for name, value in options.items() if name in known}
    return [
        (
            task,
            Asked(
                **shared,
                model=models.get(task),
                weights=Path(weights[task]) if task in weights else None,
                strength=strengths.get(task),
            ),
        )
        for task in tasks
    ]


def parse_each(
    option: str, text: str | None, tasks: Sequence[str], *, for_all: bool = False
) -> dict[str, str]:
    """``derain=X,denoise=Y`` → the value of each task that has one.

    A value without a task is that of the only task, or of every one if it may be ``for_all``.
    """
    if text is None:
        return {}
    found: dict[str, str] = {}
    parts = text.split(",") if len(tasks) > 1 else [text]
    for part in parts:
        task, equals, value = part.strip().partition("=")
        if equals and task in tasks:
            if task in found:
                raise UsageError(f"{option} {text!r} names {task} twice.")
            found[task] = value
        elif len(parts) == 1 and (for_all or len(tasks) == 1) and task not in TASKS:
            return dict.fromkeys(tasks, text)
        else:
            known = ",".join(f"{name}={option.removeprefix('--').upper()}" for name in tasks)
            raise UsageError(
                f"{option} {text!r}: {part!r} does not say of which of these tasks it is.",
                hint=f"Give {option} {known}, or some of them.",
            )
    return found
