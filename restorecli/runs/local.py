"""A run over many pictures: each is restored here, while its neighbours are read and written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest

import numpy as np
from numpy.typing import DTypeLike

from restorecli.engine import detail
from restorecli.engine.box import Box, chosen, window
from restorecli.engine.chain import Chain, prepare_chain
from restorecli.engine.devices import peak_bytes
from restorecli.engine.plan import Plan
from restorecli.errors import DeviceError, RestoreError
from restorecli.images import Photo
from restorecli.report import Report, Row, StepScores
from restorecli.report.words import duration_text
from restorecli.runs.items import Item
from restorecli.runs.job import Job
from restorecli.runs.listener import Listener, Silent
from restorecli.runs.manifest import Ledger
from restorecli.runs.overlap import Beside
from restorecli.runs.picture import hardly_changed, read, scored, write
from restorecli.runs.preview import said
from restorecli.runs.resuming import finished_meanwhile
from restorecli.runs.rows import clear_away, failed, report_of, settings_of, settled, skipped

# The most that each takes for a pixel: decoding float32 TIFF, encoding AVIF (the file is in it, the
# pixels are not), and SSIM of three channels with its two pictures. Measured with 4 megapixels.
READING_BYTES, WRITING_BYTES, SCORING_BYTES = 28, 46, 190


def run(job: Job, listener: Listener) -> Report:
    """Restore everything in this process, as `restorecli.runs.run.run` says."""
    return run_with(prepare_chain([step.engine for step in job.steps]), job, listener)


def run_with(engine: Chain, job: Job, listener: Listener) -> Report:
    """Restore everything with the engine of ``job``, which is ready; the report tells of it."""
    started = time.perf_counter()
    ledger = Ledger(fingerprint=job.fingerprint)
    batch = Batch(engine=engine, job=job, ledger=ledger, listener=listener)
    interrupted = False
    listener.start(len(job.selection.items))
    try:
        clear_away(job.selection)
        batch.run(job.selection.items)
    except KeyboardInterrupt:
        interrupted = True
    return report_of(
        job,
        batch.rows,
        settings_of(job, device=str(engine.device), precision=engine.precision_name),
        elapsed_s=time.perf_counter() - started,
        interrupted=interrupted,
    )


def restore_item(engine: Chain, job: Job, ledger: Ledger, item: Item) -> Row:
    """Restore one picture alone, from file to file; its row tells how."""
    batch = Batch(engine=engine, job=job, ledger=ledger, listener=Silent())
    batch.run([item])
    return batch.rows[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An input that was read."""

    data: bytes  # of the file
    photo: Photo
    dtype: DTypeLike  # of the result's values
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A result that has not been written yet."""

    source: bytes  # content of the input
    photo: Photo
    plan: Plan
    elapsed_s: float  # for reading and restoring
    steps: tuple[StepScores, ...] = ()
    exact: bool | None = None  # where the plan does not say it


@dataclass(slots=True, kw_only=True)
class Batch:
    """What is done to each input of a run, and what came of it.

    Pictures are restored in this thread, one after the other. Beside that the next one is read
    and the last one written, as far as the memory that its plan leaves allows; the plan, and so
    every pixel, is what it would be without them.
    """

    engine: Chain
    job: Job
    ledger: Ledger
    listener: Listener
    rows: list[Row] = field(default_factory=list)  # in the order of the inputs
    beside: Beside[Opened] = field(default_factory=Beside)
    bytes_behind: int = 0  # that writing the last picture may take beside this one

    def run(self, items: Sequence[Item]) -> None:
        """Restore ``items``; raises ``KeyboardInterrupt`` when the rows are complete so far."""
        with self.beside:
            for item, following in zip_longest(items, items[1:]):
                self.listener.begin()
                self._hand_over(item, self._restore(item, following), last=following is None)

    def _restore(self, item: Item, following: Item | None) -> Restored | Row:
        """Restore one input; the row of one that needs no work or failed."""
        if (row := settled(item)) is not None:
            return row
        started = time.perf_counter()
        ahead = self.beside.taken()
        try:
            if finished_meanwhile(item, self.ledger):
                return skipped(item)
            opened = ahead or self._read(item, self.job.files.max_pixels)
            started = time.perf_counter() - opened.elapsed_s
            plan = self._plan(opened, following)
            if self.job.preview:
                return self._previewed(item, opened, plan, started)
            steps: list[StepScores] = []
            photo, plan = self.engine.restore(
                opened.photo,
                self.listener.advance,
                dtype=opened.dtype,
                plan=plan,
                on_step=partial(self._score_step, item, steps),
            )
            photo = replace(photo, notes=photo.notes + hardly_changed(opened.photo, photo))
        except RestoreError as error:
            return failed(item, error, time.perf_counter() - started)
        elapsed_s = time.perf_counter() - started
        return Restored(
            source=opened.data, photo=photo, plan=plan, elapsed_s=elapsed_s, steps=tuple(steps)
        )

    def _previewed(self, item: Item, opened: Opened, plan: Plan, started: float) -> Restored:
        """A detail before and after, side by side."""
        photo, begun = opened.photo, time.perf_counter()
        box = self._detail(opened)
        before, after, around = detail.restored_detail(
            self.engine, photo, box, self.listener.advance, np.dtype(opened.dtype)
        )
        seconds = time.perf_counter() - begun
        size = (around.height, around.width)
        notes = [said(str(box), size=photo.size, window=size)]
        if size != photo.size:
            whole_s = seconds * photo.size[0] * photo.size[1] / (size[0] * size[1])
            notes.append(f"the whole picture would take about {duration_text(whole_s)}")
        notes += hardly_changed(before, after)
        shown = replace(detail.beside(before, after, photo), notes=(*photo.notes, *notes))
        return Restored(
            source=opened.data,
            photo=shown,
            plan=plan,
            elapsed_s=time.perf_counter() - started,
            exact=size == photo.size and plan.exact,
        )

    def _detail(self, opened: Opened) -> Box:
        assert self.job.preview is not None
        return chosen(self.job.preview.crop, opened.photo.size, "the picture")

    def _size(self, opened: Opened) -> tuple[int, int]:
        """(height, width) of what is restored of a picture."""
        if self.job.preview is None:
            return opened.photo.size
        around = window(self._detail(opened), opened.photo.size)
        return around.height, around.width

    def _score_step(self, item: Item, steps: list[StepScores], number: int, photo: Photo) -> None:
        """Score the picture after a step of a chain, if it has a reference."""
        if self.job.scoring is None:
            return
        with suppress(RestoreError):  # which the scores of the result tell, too
            if scores := self.job.scoring.scores_of(item.source, photo):
                steps.append(StepScores(task=self.job.steps[number].task, scores=scores))

    def _read(self, item: Item, max_pixels: int) -> Opened:
        started = time.perf_counter()
        data, photo, dtype = read(
            item,
            replace(self.job.files, max_pixels=max_pixels),
            room_bytes=self.engine.decoding_bytes(),
        )
        elapsed_s = time.perf_counter() - started
        return Opened(data=data, photo=photo, dtype=dtype, elapsed_s=elapsed_s)

    def _plan(self, opened: Opened, following: Item | None) -> Plan:
        """The plan for a picture; begins to read the next one if memory allows."""
        size = self._size(opened)
        try:
            plan = self.engine.plan(size, opened.photo.pixels.dtype, opened.dtype)
            room_bytes = self.engine.room_bytes(plan) - self.bytes_behind
        except DeviceError:  # perhaps only because of what is being written
            room_bytes = -1
        if room_bytes < 0:
            self.beside.written()
            return self.engine.plan(size, opened.photo.pixels.dtype, opened.dtype)
        beside_bytes = self.bytes_behind
        max_pixels = min(room_bytes // READING_BYTES, self.job.files.max_pixels)
        if max_pixels and following and settled(following) is None:
            self.beside.read(partial(self._read, following, max_pixels))
            beside_bytes += READING_BYTES * min(max_pixels, size[0] * size[1])  # if it is alike
        return replace(plan, held_bytes=plan.held_bytes + beside_bytes)

    def _hand_over(self, item: Item, result: Restored | Row, *, last: bool) -> None:
        """Let ``result`` be written: beside the next picture if memory allows, else now."""
        self.bytes_behind = 0
        if isinstance(result, Restored) and not last:
            height, width = result.photo.size
            per_pixel = WRITING_BYTES + (SCORING_BYTES if self.job.scoring else 0)
            needed_bytes = per_pixel * height * width
            if needed_bytes <= self.engine.room_bytes(result.plan):
                self.beside.write(partial(self._finish, item, result))
                self.bytes_behind = needed_bytes
                return
        self.beside.written()
        self._finish(item, result)

    def _finish(self, item: Item, result: Restored | Row) -> None:
        """Write what is to be written, and tell."""
        row = result if isinstance(result, Row) else self._written(item, result)
        self.rows.append(row)
        self.listener.finish(row)

    def _written(self, item: Item, result: Restored) -> Row:
        name, photo, plan = str(item.source), result.photo, result.plan
        started = time.perf_counter() - result.elapsed_s
        try:
            lost = write(item, photo, self.job.files, self.ledger, source=result.source)
        except RestoreError as error:
            return failed(item, error, time.perf_counter() - started)
        row = Row(
            name=name,
            input=name,
            output=str(item.target),
            height_px=photo.size[0],
            width_px=photo.size[1],
            exact=plan.exact if result.exact is None else result.exact,
            tile_px=plan.tile_px,
            strip_rows=plan.strip_rows,
            elapsed_s=time.perf_counter() - started,
            predicted_memory_bytes=plan.predicted_bytes,
            peak_memory_bytes=peak_bytes(self.engine.device),
            notes=photo.notes + lost,
            steps=result.steps,
        )
        return scored(row, item, self.job.scoring) if self.job.scoring else row
