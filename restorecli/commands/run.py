"""``restore run``: several tasks, one after the other, on each picture in memory."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from restorecli.commands.asking import asks
from restorecli.commands.help import guided
from restorecli.commands.options import Asked, ChainAsked
from restorecli.commands.restore import PUBLISHED, TASKS, restore
from restorecli.errors import UsageError


@guided(
    (
        "restore run photo.jpg --task derain,denoise",
        "Writes photo.derain-denoise.jpg: rain is removed, then noise.",
    ),
    (
        "restore run night/ --task denoise,lowlight --strength lowlight=0.7 -o day/",
        "Restores a folder, and makes 70 % of the change in brightness.",
    ),
    (
        "restore run set/input --task derain,deblur -o out --ref set/target --json",
        "Scores pictures before, after each task and at the end.",
    ),
    codes=(0, 1, 2, 3, 4, 5, 130),
)
@asks(ChainAsked)
def run(**options: Any) -> None:
    """Do several tasks one after the other: each picture is read once and written once."""
    asked = ChainAsked(**options)
    tasks = parse_tasks(asked.tasks)
    if len(tasks) > 1 and asked.protocol == PUBLISHED:
        raise UsageError(
            f"--protocol {PUBLISHED} restores as the authors of one network do, not as a chain.",
            hint="Name one task.",
        )
    restore(each(asked, tasks))


def parse_tasks(text: str) -> tuple[str, ...]:
    """``derain,denoise`` → its tasks in their order, each one once."""
    tasks = tuple(part.strip() for part in text.split(","))
    for number, task in enumerate(tasks):
        if task not in TASKS:
            near = difflib.get_close_matches(task.lower(), TASKS, n=1)
            meant = f"Did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"--task {text!r}: {task!r} is no task.",
                hint=f"{meant}Known: {', '.join(TASKS)}; several are parted by commas.",
            )
        if task in tasks[:number]:
            raise UsageError(f"--task {text!r} names {task} twice.", hint="Give each task once.")
    return tasks


def each(asked: ChainAsked, tasks: Sequence[str]) -> list[tuple[str, Asked]]:
    """What is asked for of each task."""
    models = parse_each("--model", asked.model, tasks)
    weights = parse_each("--weights", str(asked.weights) if asked.weights else None, tasks)
    strengths = parse_each("--strength", asked.strength, tasks, for_all=True)
    shared = {field.name: getattr(asked, field.name) for field in fields(Asked)}
    return [
        (
            task,
            Asked(
                **shared
                | {
                    "model": models.get(task),
                    "weights": Path(weights[task]) if task in weights else None,
                    "strength": strengths.get(task),
                }
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
