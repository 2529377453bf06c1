"""Restore pictures as they arrive in a folder: when they are complete, and each of them once.

What is there and how large it is decides, not who said so: messages of the file system only wake
us. The manifest of the results remembers what was done, so that a new start goes on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from restorecli.engine.chain import Chain
from restorecli.errors import InputError, RestoreError
from restorecli.files.regular import is_directory
from restorecli.images.finding import candidates
from restorecli.report import Row
from restorecli.runs.items import Item, Selection
from restorecli.runs.job import Job
from restorecli.runs.listener import Listener
from restorecli.runs.local import run_with
from restorecli.runs.manifest import Ledger
from restorecli.runs.naming import Naming
from restorecli.runs.resuming import marked
from restorecli.runs.rows import failed
from restorecli.runs.selection import select
from restorecli.runs.targets import with_writable_targets

PATIENCE_S = 10  # for which a file that cannot be read may still be on its way
LOOK_S = 30  # without any message: network file systems send none


class Signature(NamedTuple):
    """What changes when a file is written to."""

    size_bytes: int
    modified_ns: int
    number: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file that may still be written."""

    signature: Signature
    since: float  # when it was first seen like that
    is_unread: bool = False  # it was tried, and may still be on its way


def unchanged_files(folder: Path, results: Path, *, recursive: bool) -> dict[Path, Signature]:
    """Every file that could be a picture, and its signature now."""
    found = {}
    for file in candidates(folder, recursive=recursive, results=results, kind_of=lambda path: None):
        try:
            stat = file.path.stat()
        except OSError:  # gone again
            continue
        found[file.path] = Signature(stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return found


@dataclass(slots=True, kw_only=True)
class Watch:
    """A folder that is watched, and what became of its files."""

    chain: Chain
    job: Job  # without pictures
    naming: Naming
    folder: Path
    listener: Listener
    recursive: bool = False
    settle_s: float = 1.0  # for which a complete file has not changed
    clock: Callable[[], float] = time.monotonic
    counts: Counter[str] = field(default_factory=Counter)  # of rows, by status
    done: dict[Path, Signature] = field(default_factory=dict)
    waiting: dict[Path, Waiting] = field(default_factory=dict)
    looked: float | None = None  # when all files were looked at last

    def __post_init__(self) -> None:
        if not is_directory(self.folder):
            raise InputError(
                f"There is no folder {self.folder} to watch.",
                hint="Make it first, or name another.",
            )

    def look(self, *, told: bool) -> None:
        """Restore what has become complete; ``told`` if the file system says that something moved.

        Raises ``KeyboardInterrupt`` when Ctrl-C or SIGTERM came; what was being written is whole.
        """
        now = self.clock()
        first = self.looked is None
        if not (told or first or self.waiting or now - (self.looked or 0) >= LOOK_S):
            return
        self.looked = now
        there = unchanged_files(self.folder, self._root, recursive=self.recursive)
        self.waiting = {path: kept for path, kept in self.waiting.items() if path in there}
        for path, signature in there.items():
            if self.done.get(path) == signature:
                continue
            known = self.waiting.get(path)
            if known is None or known.signature != signature:
                age_s = time.time() - signature.modified_ns / 1e9 if first else 0.0
                self.waiting[path] = Waiting(signature, now - max(0.0, age_s))
        ready = [path for path, kept in self.waiting.items() if self._is_ready(kept, now)]
        if ready:
            self._restore(ready, now)

    def _is_ready(self, kept: Waiting, now: float) -> bool:
        patience_s = PATIENCE_S if kept.is_unread else self.settle_s
        return now - kept.since >= patience_s

    @property
    def _root(self) -> Path:
        return self.naming.of_folder(self.folder)

    def _restore(self, ready: list[Path], now: float) -> None:
        """Restore ``ready`` and remember them, but for those that may still be on their way."""
        names = {Row(name=str(path)).name: path for path in ready}  # as rows call them
        young = {name for name, p in names.items() if now - self.waiting[p].since < PATIENCE_S}
        hears = _Told(self.listener, young, self.counts)
        interrupted = False
        selection = self._selected(set(ready), hears)
        if selection.items:
            job = replace(self.job, selection=with_writable_targets(selection))
            interrupted = run_with(self.chain, job, hears).interrupted
        for name, path in names.items():
            if name in hears.withheld:
                self.waiting[path] = replace(self.waiting[path], is_unread=True)
            elif name in hears.ended or not interrupted:  # what is no picture has no row
                self.done[path] = self.waiting.pop(path).signature
        if interrupted:
            raise KeyboardInterrupt

    def _selected(self, ready: set[Path], hears: _Told) -> Selection:
        """Those of ``ready`` that are pictures, named as a run over the folder would name them."""
        try:
            found = select([self.folder], self.naming, recursive=self.recursive, existing="resume")
        except InputError:  # there is no picture, or the folder is gone
            return Selection(items=())
        except RestoreError as error:  # two pictures that would become one
            for path in sorted(ready):
                hears.finish(failed(Item(source=path, target=path), error))
            return Selection(items=())
        items = [item for item in found.items if item.source in ready]
        ledger = Ledger(fingerprint=self.job.fingerprint)
        return marked(Selection(items=items), ledger)


class _Told:
    """Counts rows, and withholds failures of files that may still be on their way."""

    def __init__(self, listener: Listener, young: set[str], counts: Counter[str]) -> None:
        self._listener, self._young, self._counts = listener, young, counts
        self.withheld: set[str] = set()
        self.ended: set[str] = set()
        self.start = listener.start
        self.begin = listener.begin
        self.advance = listener.advance

    def finish(self, row: Row) -> None:
        if row.exit_code == InputError.exit_code and row.name in self._young:
            self.withheld.add(row.name)
            return
        self.ended.add(row.name)
        self._counts[row.status] += 1
        if row.status != "skipped":  # after a new start: most of them
            self._listener.finish(row)
