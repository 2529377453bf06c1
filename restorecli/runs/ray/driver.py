"""A run on Ray, from a selection to a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

from restorecli.errors import UsageError
from restorecli.images import FileOptions
from restorecli.machine.versions import versions
from restorecli.report import Report, Row
from restorecli.runs.manifest import Ledger
from restorecli.runs.ray.connection import Pool, cluster, room_for
from restorecli.runs.ray.crew import Crew
from restorecli.runs.ray.probes import Probes
from restorecli.runs.ray.worker import Setup
from restorecli.runs.run import Listener, collect, settings_of, settled
from restorecli.runs.selection import Selection
from restorecli.scoring.score import InPass


def run(
    pool: Pool,
    task: str,
    network: Mapping[str, Any],
    selection: Selection,
    *,
    model_id: str,
    offline: bool,
    listener: Listener,
    scoring: InPass | None,
    files: FileOptions,
    ledger: Ledger,
) -> Report:
    """Restore everything on the cluster of ``pool``; rows and report are those of one process.

    ``network`` has the arguments of `restorecli.engine.engine.prepare`, which every actor calls.

    Raises:
    ``RestoreError``, before any picture is begun, for what cannot work: no Ray, no cluster, other
    versions, folders that workers do not see, a network that does not load.
    """
    for item in selection.items:
        if item.to_stdout or item.data is not None:
            raise UsageError(
                "--engine ray works on files, not on standard input or output.",
                hint="Name files, and a folder with -o.",
            )
    rows: list[tuple[int, Row]] = []  # of what needs no work
    work = []
    for position, item in enumerate(selection.items):
        row = settled(item)
        if row is None:
            work.append(position)
        else:
            rows.append((position, row))
    device, precision, threads, actors = network["device"], network["precision"], pool.cpus, 0
    with ExitStack() as stack:
        coming: Iterable[tuple[int, Row]] = ()
        if work:
            stack.enter_context(cluster(pool))
            actors, gpus = room_for(pool, device)
            actors = min(actors, len(work))
            probes = Probes.write(selection.items[i] for i in work)
            stack.callback(probes.remove)
            setup = Setup(
                task=task,
                network={**network, "threads": threads, "device": device if gpus else "cpu"},
                offline=offline,
                files=files,
                ledger=ledger,
                scoring=scoring,
                versions=versions(),
                folder=Path.cwd(),
            )
            crew = Crew(selection.items, setup, probes, cpus=threads, gpus=gpus)
            facts = stack.enter_context(crew).start(actors)
            device, precision = facts.device, facts.precision
            coming = crew.rows(work)
        settings = settings_of(
            task,
            model_id=model_id,
            model_sha256=ledger.job.model_sha256,
            device=device,
            precision=precision,
            scoring=scoring,
            published=network["published"],
            options={"engine": "ray", "actors": str(actors), "threads": str(threads)},
        )
        return collect(chain(rows, coming), task, selection, listener=listener, settings=settings)
