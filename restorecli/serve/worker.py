"""The one thread that restores: a photograph at a time, within the memory plan of every run."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from restorecli.errors import RestoreError
from restorecli.images import suffix_for
from restorecli.report import Row
from restorecli.runs.items import Item, Selection
from restorecli.runs.job import Job
from restorecli.serve.album import Album, Run, Shown, Upload
from restorecli.serve.finding import find
from restorecli.serve.looking import kind_of, look, shown
from restorecli.serve.names import free_path
from restorecli.serve.settings import Settings

if TYPE_CHECKING:
    from restorecli.engine.chain import Chain

PROBLEM = "This is a fault of the tool, not of the photograph: {}."


class Unwanted(KeyboardInterrupt):
    """The run was cancelled; it ends as Ctrl-C ends one."""


class Told:
    """The listener of one run: it tells the album, and ends what was cancelled."""

    def __init__(self, album: Album, run: Run) -> None:
        self._album = album
        self._run = run

    def start(self, total: int) -> None:
        """Work on ``total`` inputs begins."""

    def begin(self) -> None:
        """Work on the next input begins."""
        self.advance(0.0)

    def advance(self, share: float) -> None:
        """``share`` of the current image has been done."""
        if not self._album.advance(self._run, share):
            raise Unwanted

    def finish(self, row: Row) -> None:
        """One input has come to its end."""


class Worker:
    """Takes runs from the album until it ends."""

    def __init__(self, album: Album, settings: Settings) -> None:
        self._album = album
        self._settings = settings
        self._engine: Chain | None = None  # of the last run: the next one often needs it again
        self._models: tuple[str, ...] = ()
        self._looking = threading.Lock()  # one photograph at a time is decoded beside a run
        self._thread = threading.Thread(target=self._work, name="restore", daemon=True)

    def start(self) -> None:
        """Begin to wait for runs."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the run under way has ended, which it does soon once the album has."""
        self._thread.join()

    def _work(self) -> None:
        from restorecli.runs import local  # noqa: F401 (torch is loaded while nobody waits yet)

        while (run := self._album.next_run()) is not None:
            try:
                row = self._row(run)
            except RestoreError as error:
                row = failed(run, str(error))
            except Exception as error:  # whatever it is, the next photograph gets its turn
                row = failed(run, PROBLEM.format(f"{type(error).__name__}: {error}"))
            if row is not None:
                self._album.finish(run, self._named(row, run.photo), self._shown(row, run))

    def _row(self, run: Run) -> Row | None:
        """What came of ``run``; ``None`` if nothing is to be told. Raises ``RestoreError``."""
        from restorecli.runs.local import run_with

        if not run.photo.looked_at:
            self.look(run.photo)
        if run.wish.is_check:
            found = find(run.photo.path, max_pixels=self._settings.limits.pixels)
            self._album.tell(run, found)
            return None
        job = self._job(run)
        report = run_with(self._engine_of(run, job), job, Told(self._album, run))
        return report.rows[0] if report.rows else None

    def _job(self, run: Run) -> Job:
        """One photograph, one result under a name that is free."""
        photo, folder = run.photo, self._settings.folder
        suffix = suffix_for(photo.path.suffix, kind_of(photo.path))
        target = free_path(folder, f"{photo.path.stem}.{run.wish.label}", suffix)
        return Job(
            steps=run.wish.steps(self._settings),
            selection=Selection(items=[Item(source=photo.path, target=target, root=folder)]),
            files=replace(self._settings.files, max_pixels=self._settings.limits.pixels),
        )

    def _engine_of(self, run: Run, job: Job) -> Chain:
        """The networks of ``run``: those of the last run if they are the same."""
        from restorecli.engine.chain import Chain, prepare_chain

        if self._engine is None or self._models != run.wish.models:
            self._engine = None  # before the next one is loaded
            self._engine = prepare_chain([step.engine for step in job.steps])
            self._models = run.wish.models
        engines = (replace(e, strength=run.wish.strength) for e in self._engine.engines)
        return Chain(engines=tuple(engines))

    def look(self, photo: Upload, *, at_once: bool = False) -> None:
        """Make what the page shows of a photograph; ``InputError`` if it is of no use.

        A large one is left for later where it is to be done ``at_once``, beside a run.
        """
        with self._looking:
            found = look(photo, max_pixels=self._settings.limits.pixels, at_once=at_once)
        if found is None:
            return

        def keep() -> None:
            photo.thumbnail, photo.shown = found
            photo.looked_at = True

        self._album.change(keep)

    def _shown(self, row: Row, run: Run) -> Shown:
        if row.status != "ok" or row.output is None:
            return Shown()
        copy = run.photo.folder / f"{run.id}.webp"
        try:
            return shown(Path(row.output), copy, max_pixels=self._settings.limits.pixels)
        except (RestoreError, OSError):  # the photograph was removed meanwhile
            return Shown()

    def _named(self, row: Row, photo: Upload) -> Row:
        """``row`` whose sentences speak of the photograph by the name it came with."""

        def told(text: str) -> str:
            return photo.told(text).replace(f"{self._settings.folder}/", "")

        notes = tuple(told(note) for note in row.notes)
        return replace(row, notes=notes, error=told(row.error) if row.error else row.error)


def failed(run: Run, why: str) -> Row:
    """The row of a run that did not even begin."""
    name = str(run.photo.path)
    return Row(name=name, input=name, status="failed", error=why)
