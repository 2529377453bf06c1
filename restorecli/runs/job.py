"""All that one run is, checked and complete: the command line, Python and Ray hand it over.

`make_job` refuses what cannot work or would lose something; `restorecli.runs.run.run` does the
rest. Nothing is written, and no torch is loaded, before that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
class Job:
    """All that one run is: which pictures, by which network, and what becomes of them."""

    task: str
    engine: EngineSettings
    selection: Selection
    files: FileOptions = FILES_AS_THEY_ARE
    scoring: InPass | None = None
    pool: Pool | None = None  # ``None``: in this process

    def with_model(self, model: ChosenModel) -> Job:
        """The same with another network, such as one that has been downloaded meanwhile."""
        return replace(self, engine=replace(self.engine, model=model))

    @property
    def fingerprint(self) -> Fingerprint:
        """What, apart from the input, decides the bytes of a result."""
        engine, files = self.engine, self.files
        tile = {AUTO: "auto", None: "none"}.get(engine.tile, str(engine.tile))
        options: Mapping[str, str] = {
            "task": self.task,
            "precision": engine.precision,
            "tile": tile,
            "overlap": str(engine.overlap_px),
            "max_memory": str(engine.max_bytes),
            "bits": files.bits,
            "metadata": files.metadata,
        }
        options = {**options, **engine.changes}
        if files.jpeg_quality is not None:
            options = {**options, "jpeg_quality": str(files.jpeg_quality)}
        if engine.published:
            options = {**options, "as_published": engine.published.text}
        return Fingerprint(model_sha256=engine.model.sha256, options=options)


def make_job(
    inputs: Sequence[Path],
    naming: Naming,
    engine: EngineSettings,
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
        engine: The network, its device and its memory.
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
    job = Job(task=naming.task, engine=engine, selection=selection, files=files, pool=pool)
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
    if naming.to_stdout:
        raise UsageError("--ref needs the result as a file: not -o -.")
    if naming.in_place:
        raise UsageError("--ref needs the input after the result is written: not --in-place.")
    if any(map(is_remote, inputs)):
        raise UsageError("--ref needs inputs on this machine's file systems.")
    if any(path is STDIN for path in inputs):
        raise UsageError("--ref needs the input as a file: not standard input.")
