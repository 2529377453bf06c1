"""Networks as ``restore`` runs them: which ones, and what they make of pictures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import safetensors.torch
from safetensors import safe_open

from restorecli.weights import registry
from training.data import load_photographs
from training.testsets import Levels, TestSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network in the table: an id of the registry, or a file that is not in it yet."""

    label: str
    options: tuple[str, ...]  # of the command
    described: Mapping[str, str] | None = (
        None  # what the file ought to say of itself, if it is mute
    )


def defaults(chosen: TestSet | str) -> list[Network]:
    """What ``restore TASK`` uses, and the network that the set names besides, if there is one."""
    task, model = (chosen, "") if isinstance(chosen, str) else (chosen.task, chosen.model)
    known = registry()
    ids = [known.default(task).id]
    if model in known and known[model].id not in ids:
        ids.append(model)
    return [by_id(name) for name in ids]


def by_id(name: str) -> Network:
    """A network of the registry."""
    return Network(label=name, options=("--model", name))


def candidates(
    models: Sequence[str], files: Sequence[str], described: Sequence[str]
) -> dict[str, list[Network]]:
    """Networks by task: ids, ``[TASK=]FILE``, and ``TASK=NAME{OPTIONS}`` for files that are mute.

    Raises ``SystemExit`` where a task or a description is missing or wrong.
    """
    found: dict[str, list[Network]] = defaultdict(list)
    for name in models:
        for known in registry()[name].tasks:
            found[known].append(by_id(name))
    told = dict(description(text) for text in described)
    for text in files:
        task, _, file = text.rpartition("=")
        path = Path(file)
        task = task or stated_task(path)
        found[task].append(
            Network(label=path.stem, options=("--weights", file), described=told.get(task))
        )
    return found


def stated_task(path: Path) -> str:
    """The task that a checkpoint of `training.export` names in its metadata."""
    with safe_open(path, "pt") as opened:
        task = (opened.metadata() or {}).get("task")
    if not task:
        raise SystemExit(f"{path} does not say what it is for: give --weights TASK={path}.")
    return str(task)


def description(text: str) -> tuple[str, dict[str, str]]:
    """``derain=hint{"dim": 32}`` → the task, and the metadata of a checkpoint."""
    parts = re.fullmatch(r"(\w+)=(\w+)(\{.*\})?", text)
    try:
        options = json.loads(parts[3] or "{}") if parts else None
    except ValueError:
        options = None
    if parts is None or options is None:
        raise SystemExit(f'--network {text}: expected TASK=NAME{{"option": value, …}}.')
    return parts[1], {"network": parts[2], "options": json.dumps(options)}


def restored(task: str, inputs: Sequence[Levels], network: Network, precision: str) -> list[Levels]:
    """What ``restore TASK`` writes for ``inputs``, by one call of the command, as PNG."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        source, results = scratch / "input", scratch / "restored"
        source.mkdir()
        for index, levels in enumerate(inputs):
            cv2.imwrite(str(source / f"{index:04}.png"), levels[..., ::-1])
        command = [sys.executable, "-m", "restorecli", task, str(source), "-o", str(results), "-q"]
        command += ["--name", "{stem}.png", "--precision", precision]
        command += with_description(network, scratch)
        subprocess.run(command, check=True)
        return load_photographs(results)


def with_description(network: Network, scratch: Path) -> list[str]:
    """The network's options; a file that is mute is copied with its description."""
    if not network.described:
        return list(network.options)
    file = Path(network.options[-1])
    spoken = scratch / file.name
    safetensors.torch.save_file(safetensors.torch.load_file(file), spoken, dict(network.described))
    return ["--weights", str(spoken)]
