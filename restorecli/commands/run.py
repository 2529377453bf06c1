"""``restore run``: several tasks, one after the other, on each picture in memory."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from restorecli.commands.asking import asks
from restorecli.commands.help import guided
from restorecli.commands.options import ChainAsked
from restorecli.commands.restore import PUBLISHED, restore
from restorecli.commands.steps import each, parse_tasks
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
    restore(each(tasks, asdict(asked)))
