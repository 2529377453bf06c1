"""A run by any engine: rows come in as they finish, a report comes out. No torch here."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Protocol

from restorecli.atomic import remove_leftovers
from restorecli.errors import RestoreError
from restorecli.inputs import Item, Selection
from restorecli.report import Report, Row, Settings
from restorecli.scoring import InPass, protocol_text, versions


class Listener(Protocol):
    """Who is told while a run goes on."""

    def start(self, total: int) -> None:
        """Work on ``total`` inputs begins."""

    def advance(self, share: float) -> None:
        """``share`` of the current image has been done."""

    def finish(self, row: Row) -> None:
        """One input has come to its end."""


def collect(
    rows: Iterable[tuple[int, Row]],
    task: str,
    selection: Selection,
    *,
    listener: Listener,
    settings: Settings,
) -> Report:
    """Take (position in the selection, row) in any order; Ctrl-C ends the run cleanly.

    The report has the rows in the order of the selection, and says whether all were exact.
    """
    started = time.perf_counter()
    done: list[Row | None] = [None] * len(selection.items)
    interrupted = False
    listener.start(len(done))
    try:
        for folder in {item.target.parent for item in selection.items if not item.to_stdout}:
            remove_leftovers(folder)
        for position, row in rows:
            done[position] = row
            listener.finish(row)
    except KeyboardInterrupt:
        interrupted = True
    finished = tuple(row for row in done if row is not None)
    exact = [row.exact for row in finished if row.exact is not None]
    return Report(
        title=f"{task}, {len(finished)} picture{'' if len(finished) == 1 else 's'}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        elapsed_s=time.perf_counter() - started,
        settings=settings.model_copy(update={"exact": all(exact) if exact else None}),
        rows=finished,
        notes=(f"{selection.ignored} other file(s) ignored",) if selection.ignored else (),
        interrupted=interrupted,
    )


def settings_of(
    task: str,
    *,
    model_id: str,
    model_sha256: str,
    device: str,
    precision: str,
    scoring: InPass | None,
    options: dict[str, str] | None = None,
) -> Settings:
    """How a run of ``task`` was made."""
    protocol = scoring.protocol if scoring else None
    return Settings(
        command=task,
        task=task,
        model_id=model_id,
        model_sha256=model_sha256,
        protocol=protocol.name if protocol else None,
        protocol_text=protocol_text(protocol) if protocol else None,
        device=device,
        precision=precision,
        versions=versions(),
        options=options or {},
    )


def settled(item: Item) -> Row | None:
    """The row of an item that needs no work: finished before, or known to be unusable."""
    name = str(item.source)
    if item.finished:
        return Row(name=name, input=name, output=str(item.target), status="skipped")
    return failed(item, item.error) if item.error else None


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
