"""What is wrong with a photograph, in words for the page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from restorecli.scoring.faults.check import check_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The answer to "what is wrong with it?"."""

    sentence: str
    task: str | None  # that would mend it; ``None``: nothing is recommended

    def data(self) -> dict[str, Any]:
        """For the page."""
        return asdict(self)


def find(path: Path, *, max_pixels: int) -> Finding:
    """Judge a photograph; raises ``InputError`` for what cannot be read."""
    checked = check_file(path, max_pixels=max_pixels)
    said = checked.sentence()
    if checked.command:  # which the page offers as a button
        said = said.replace(f": {checked.command}", ".")
    return Finding(sentence=said, task=checked.verdict.task)
