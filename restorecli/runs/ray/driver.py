"""A run on Ray: a job is handed to actors, rows come back."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path

from restorecli.errors import UsageError
from restorecli.machine.versions import versions
from restorecli.report import Report, Row
from restorecli.runs.items import Selection
from restorecli.runs.job import Job, Pool
from restorecli.runs.listener import Listener
from restorecli.runs.ray.connection import cluster, room_for
from restorecli.runs.ray.crew import Crew
from restorecli.runs.ray.probes import Probes
from restorecli.runs.ray.worker import Setup
from restorecli.runs.rows import collect, settings_of, settled


def run(job: Job, listener: Listener) -> Report:
    """Restore everything on the cluster of the job's pool, as `restorecli.runs.run.run` says.

    Rows and report are those of one process. Raises ``RestoreError``, before any picture is begun,
    for what cannot work: no Ray, no cluster, other versions, folders that workers do not see, a
    network that does not load.
    """
    pool = job.pool or Pool()
    _refuse_streams(job.selection)
    rows: list[tuple[int, Row]] = []  # of what needs no work
    work = []
    for position, item in enumerate(job.selection.items):
        row = settled(item)
        if row is None:
            work.append(position)
        else:
            rows.append((position, row))
    device, precision, actors = job.engine.device, job.engine.precision, 0
    with ExitStack() as stack:
        coming: Iterable[tuple[int, Row]] = ()
        if work:
            stack.enter_context(cluster(pool))
            actors, gpus = room_for(pool, device)
            actors = min(actors, len(work))
            probes = Probes.write(job.selection.items[i] for i in work)
            stack.callback(probes.remove)
            setup = setup_of(job, device=device if gpus else "cpu")
            crew = Crew(job.selection.items, setup, probes, cpus=pool.cpus, gpus=gpus)
            facts = stack.enter_context(crew).start(actors)
            device, precision = facts.device, facts.precision
            coming = crew.rows(work)
        options = {"engine": "ray", "actors": str(actors), "threads": str(pool.cpus)}
        settings = settings_of(job, device=device, precision=precision, options=options)
        return collect(job, chain(rows, coming), listener, settings)


def setup_of(job: Job, *, device: str) -> Setup:
    """What actors are told: the job without its pictures, which come to them one by one."""
    threads = (job.pool or Pool()).cpus
    job = job.with_engines(lambda engine: replace(engine, device=device, threads=threads))
    return Setup(
        job=replace(job, selection=Selection(items=())),
        versions=versions(),
        folder=Path.cwd(),
    )


def _refuse_streams(selection: Selection) -> None:
    for item in selection.items:
        if item.to_stdout or item.data is not None:
            raise UsageError(
                "--engine ray works on files, not on standard input or output.",
                hint="Name files, and a folder with -o.",
            )
