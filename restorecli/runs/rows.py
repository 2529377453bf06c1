"""Rows of a run come in as pictures finish, a report comes out. No torch here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone

from restorecli.errors import RestoreError
from restorecli.files.atomic import remove_leftovers
from restorecli.machine.versions import versions
from restorecli.report import Report, Row, Settings
from restorecli.runs.items import Item, Selection
from restorecli.runs.job import Job
from restorecli.runs.listener import Listener
from restorecli.scoring.report import protocol_text


def collect(
    job: Job, rows: Iterable[tuple[int, Row]], listener: Listener, settings: Settings
) -> Report:
    """Take (position in the selection, row) in any order; Ctrl-C ends the run cleanly.

    The report has the rows in the order of the selection, and says whether all were exact.
    """
    started = time.perf_counter()
    done: list[Row | None] = [None] * len(job.selection.items)
    interrupted = False
    listener.start(len(done))
    try:
        clear_away(job.selection)
        for position, row in rows:
            done[position] = row
            listener.finish(row)
    except KeyboardInterrupt:
        interrupted = True
    return report_of(
        job,
        [row for row in done if row is not None],
        settings,
        elapsed_s=time.perf_counter() - started,
        interrupted=interrupted,
    )


def clear_away(selection: Selection) -> None:
    """Remove what earlier runs that ended by force left half-written where results will be."""
    for folder in {item.target.parent for item in selection.items if not item.to_stdout}:
        remove_leftovers(folder)


def report_of(
    job: Job, rows: Sequence[Row], settings: Settings, *, elapsed_s: float, interrupted: bool
) -> Report:
    """The report of a run whose rows are in the order of the selection."""
    exact = [row.exact for row in rows if row.exact is not None]
    ignored, left_out = job.selection.ignored, job.selection.left_out
    return Report(
        title=f"{job.task}, {len(rows)} picture{'' if len(rows) == 1 else 's'}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        elapsed_s=elapsed_s,
        settings=settings.model_copy(update={"exact": all(exact) if exact else None}),
        rows=tuple(rows),
        notes=(
            *_experimental(job),
            *([f"{ignored} other file(s) ignored"] if ignored else []),
            *([f"{left_out} result(s) of an earlier {job.task} left out"] if left_out else []),
            *(job.scoring.notes if job.scoring else ()),
        ),
        interrupted=interrupted,
    )


def _experimental(job: Job) -> list[str]:
    """What is to be known of networks that are not good enough yet."""
    return [
        f"{model.id} is experimental: {model.entry.experimental}"
        for model in job.models
        if model.entry is not None and model.file is None and model.entry.experimental
    ]


def settings_of(
    job: Job, *, device: str, precision: str, options: Mapping[str, str] | None = None
) -> Settings:
    """How a run was made; ``options`` are those of where it was made."""
    published = job.engine.published
    as_published = {"as_published": published.text} if published else {}
    protocol = job.scoring.protocol if job.scoring else None
    return Settings(
        command=job.task,
        task=job.task,
        model_id=job.model_id,
        model_sha256=job.model_sha256,
        protocol=protocol.name if protocol else None,
        protocol_text=protocol_text(protocol) if protocol else None,
        device=device,
        precision=precision,
        versions=versions(),
        options={**as_published, **job.changes, **(options or {})},
    )


def settled(item: Item) -> Row | None:
    """The row of an item that needs no work: finished before, or known to be unusable."""
    if item.finished:
        return skipped(item)
    return failed(item, item.error) if item.error else None


def skipped(item: Item) -> Row:
    """The row of an item whose result is there."""
    name = str(item.source)
    return Row(name=name, input=name, output=str(item.target), status="skipped")


def failed(item: Item, error: RestoreError, elapsed_s: float = 0.0) -> Row:
    """The row of an item that could not be restored."""
    name = str(item.source)
    return Row(
        name=name,
        input=name,
        status="failed",
        error=str(error),
        exit_code=error.exit_code,
        elapsed_s=elapsed_s,
    )
