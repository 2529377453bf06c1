"""What a shell completes: ids of networks, protocols, scores, devices. Quick, so no torch here.

Each takes what was typed so far, and gives what it may become with a word about it. What cannot be
read completes nothing: a shell is no place for errors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from restorecli.machine import folders

Items = list[tuple[str, str]]
PACKAGE = Path(__file__).parents[1]
REGISTRY = "weights.toml"


def one_of(*values: str) -> Callable[[str], Items]:
    """A completer of these values."""

    def completed(incomplete: str) -> Items:
        return [(value, "") for value in values if value.startswith(incomplete)]

    return completed


def models(incomplete: str) -> Items:
    """Ids of the shipped and of one's own networks, with their tasks."""
    found = {**_tables([PACKAGE / REGISTRY, PACKAGE.parent / REGISTRY])}
    if folder := folders.configuration_folder():
        found |= _tables([folder / REGISTRY])
    return [
        (name, ", ".join(map(str, table.get("tasks", []))))
        for name, table in found.items()
        if name.startswith(incomplete)
    ]


def _tables(paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """The tables of the first of ``paths`` that can be read."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    from restorecli.files.regular import read_regular

    for path in paths:
        try:
            tables = tomllib.loads(read_regular(path, most_bytes=2**24).decode("utf-8"))
        except (OSError, ValueError):
            continue
        return {name: table for name, table in tables.items() if isinstance(table, dict)}
    return {}


def protocols(incomplete: str) -> Items:
    """Protocols of pictures, with what they are for."""
    from restorecli.scoring.metrics import PROTOCOLS

    return [(name, p.summary) for name, p in PROTOCOLS.items() if name.startswith(incomplete)]


def protocols_of_tasks(incomplete: str) -> Items:
    """The same, and the one that follows a model's authors."""
    return [*protocols(incomplete), *one_of("published")(incomplete)]


def scores(incomplete: str) -> Items:
    """Scores beside those of the protocol."""
    from restorecli.scoring.metrics import EXTRA_METRICS

    return [(name, "") for name in EXTRA_METRICS if name.startswith(incomplete)]


devices = one_of("auto", "cpu", "cuda", "cuda:0", "mps")
precisions = one_of("auto", "fp32", "bf16", "fp16")
tasks = one_of(
    "derain", "desnow", "dehaze", "denoise", "lowlight", "deblur", "defocus", "spectral", "cassi"
)
