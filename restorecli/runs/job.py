"""All that one run is, checked and complete: the command line, Python and Ray hand it over.

`make_job` refuses what cannot work or would lose something; `restorecli.runs.run.run` does the
rest. Nothing is written, and no torch is loaded, before that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from restorecli.engine.settings import EngineSettings
from restorecli.errors import UsageError
from restorecli.files.addresses import is_remote
from restorecli.images import FileOptions
from restorecli.limits import AUTO
from restorecli.runs.items import STDIN, Selection
from restorecli.runs.manifest import Fingerprint, Ledger
from restorecli.runs.naming import Naming
from restorecli.runs.preview import Preview
from restorecli.runs.resuming import resumed
from restorecli.runs.selection import WhatExists, select
from restorecli.scoring.metrics import Protocol
from restorecli.scoring.score import InPass, in_pass
from restorecli.weights import ChosenModel

FILES_AS_THEY_ARE = FileOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Actors on Ray: what ``--ray-address``, ``--actors`` and the like ask for."""

    address: str | None = None  # ``None``: a Ray of our own on this machine
    actors: int | None = None  # ``None``: as many as there is room for
    gpus: float | None = None  # of one actor; ``None``: 1 where there are any
    cpus: int = 1  # of one actor, and its threads
    offline: bool = False  # nodes download no network


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """Clean pictures to score inputs and results against: ``--ref``."""

    folder: Path  # or one file
    protocol: Protocol
    allow_missing: bool = False  # restore what has no reference, unscored


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One task of a chain, and the network that does it."""

    task: str
    engine: EngineSettings


def label(tasks: Sequence[str]) -> str:
    """What names of results and reports call a chain: ``derain-denoise``."""
    return "-".join(tasks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All that one run is: which pictures, by which networks, and what becomes of them."""

    steps: tuple[Step, ...]  # in their order; one for a single task
    selection: Selection
    files: FileOptions = FILES_AS_THEY_ARE
    scoring: InPass | None = None
    pool: Pool | None = None  # ``None``: in this process
    preview: Preview | None = None  # instead of results

    @property
    def task(self) -> str:
        """The task, or the chain of them."""
        return label([step.task for step in self.steps])

    @property
    def models(self) -> tuple[ChosenModel, ...]:
        """The network of each step."""
        return tuple(step.engine.model for step in self.steps)

    @property
    def model_id(self) -> str:
        """What reports call the networks."""
        return "+".join(model.id for model in self.models)

    @property
    def model_sha256(self) -> str:
        """Of the networks' files as published, or empty where that is not known."""
        return "+".join(model.sha256 for model in self.models)

    @property
    def engine(self) -> EngineSettings:
        """Of the first step; device, memory and threads are the same for all."""
        return self.steps[0].engine

    def with_engines(self, change: Callable[[EngineSettings], EngineSettings]) -> Job:
        """The same with other settings of each engine."""
        steps = tuple(replace(step, engine=change(step.engine)) for step in self.steps)
        return replace(self, steps=steps)

    def with_models(self, models: Sequence[ChosenModel]) -> Job:
        """The same with other networks, such as those that have been downloaded meanwhile."""
        steps = zip(self.steps, models, strict=True)
        made = (replace(s, engine=replace(s.engine, model=model)) for s, model in steps)
        return replace(self, steps=tuple(made))

    @property
    def changes(self) -> dict[str, str]:
        """What was asked for that changes results and is not always there, in words."""
        if len(self.steps) == 1:
            return self.engine.changes
        found: dict[str, list[str]] = {}
        for step in self.steps:
            for name, value in step.engine.changes.items():
                found.setdefault(name, []).append(f"{step.task} {value}")
        return {name: ", ".join(values) for name, values in found.items()}

    @property
    def fingerprint(self) -> Fingerprint:
        """What, apart from the input, decides the bytes of a result."""
        files = self.files
        options = {
            "task": self.task,
            **_settings(self.engine),
            "bits": files.bits,
            "metadata": files.metadata,
            **self.changes,
        }
        for number, step in enumerate(self.steps[1:], start=2):  # of later steps, what is different
            for name, value in _settings(step.engine).items():
                if options[name] != value:
                    options[f"{name}_{number}"] = value
        if self.preview:
            options["preview"] = str(self.preview)
        if files.jpeg_quality is not None:
            options["jpeg_quality"] = str(files.jpeg_quality)
        if self.engine.published:
            options["as_published"] = self.engine.published.text
        return Fingerprint(model_sha256=self.model_sha256, options=options)


def _settings(engine: EngineSettings) -> dict[str, str]:
    """What decides the pixels of one step beside its network."""
    return {
        "precision": engine.precision,
        "tile": {AUTO: "auto", None: "none"}.get(engine.tile, str(engine.tile)),
        "overlap": str(engine.overlap_px),
        "max_memory": str(engine.max_bytes),
    }


def make_job(
    inputs: Sequence[Path],
    naming: Naming,
    work: EngineSettings | Sequence[Step],
    *,
    recursive: bool = False,
    existing: WhatExists = "refuse",
    files: FileOptions = FILES_AS_THEY_ARE,
    references: References | None = None,
    pool: Pool | None = None,
) -> Job:
    """Find the pictures, say where each result goes, and refuse what cannot work.

    Args:
        inputs: Files and folders, as `restorecli.runs.selection.expand` gives them.
        naming: The task, and how results are named.
        work: The network of the task, its device and its memory; or the steps of a chain.
        recursive: Look in folders of folders, too.
        existing: What is done about results that exist.
        files: Depth and metadata of results, and the largest input.
        references: What to score inputs and results against.
        pool: Actors on Ray; by default this process does the work.

    Raises a ``RestoreError``; nothing has been written then.
    """
    if references:
        _refuse_unscorable(inputs, naming)
    selection = select(inputs, naming, recursive=recursive, existing=existing)
    if isinstance(work, EngineSettings):
        work = [Step(task=naming.task, engine=work)]
    job = Job(steps=tuple(work), selection=selection, files=files, pool=pool)
    if naming.preview:
        job = replace(job, preview=naming.preview, files=naming.preview.files(files))
    if existing == "resume":
        job = replace(job, selection=resumed(selection, Ledger(fingerprint=job.fingerprint)))
    if references is None:
        return job
    scoring = in_pass(
        selection.found(),
        references.folder,
        references.protocol,
        allow_missing=references.allow_missing,
    )
    return replace(job, scoring=replace(scoring, max_pixels=files.max_pixels))


def _refuse_unscorable(inputs: Sequence[Path], naming: Naming) -> None:
    """Scores are taken from files: of the input and of the result, when both are there."""
    if naming.preview:
        raise UsageError("--ref scores whole results: not those of --preview.")
    if naming.to_stdout:
        raise UsageError("--ref needs the result as a file: not -o -.")
    if naming.in_place:
        raise UsageError("--ref needs the input after the result is written: not --in-place.")
    if any(map(is_remote, inputs)):
        raise UsageError("--ref needs inputs on this machine's file systems.")
    if any(path is STDIN for path in inputs):
        raise UsageError("--ref needs the input as a file: not standard input.")
