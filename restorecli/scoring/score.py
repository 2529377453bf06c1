"""Score restored pictures against their references, many at a time, or in the pass of a run."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from restorecli.errors import RestoreError
from restorecli.images.finding import Found, Picture, find_pictures
from restorecli.images.photo import Photo
from restorecli.images.seen import over_white, read_pixels
from restorecli.limits import DEFAULT_MAX_PIXELS
from restorecli.machine.allocator import keep_freed_memory
from restorecli.machine.cores import available_cores
from restorecli.report import LabelledPicture, Row
from restorecli.scoring.metrics import EXTRA_METRICS, Protocol, extra_metric, score
from restorecli.scoring.pairing import Pairing, pair

Finder = Callable[[Sequence[Path]], Found]  # what there is to score in files and folders
Reader = Callable[[Path], NDArray[Any]]  # of a file → its pixels as they are seen
WORTH_A_POOL = 32  # pairs; below that, starting processes takes longer than they save
PAIRS_PER_MESSAGE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One picture to score, and what it is called."""

    name: str
    restored: Path
    reference: Path
    other: Path | None = None  # the same picture by another method


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be scored, and what could not be paired."""

    tasks: tuple[Task, ...]
    notes: tuple[str, ...]


def plan(
    targets: Sequence[Path],
    reference: Path,
    *,
    against: Path | None = None,
    pattern: str | None = None,
    allow_missing: bool = False,
    find: Finder = find_pictures,
) -> Plan:
    """Pair everything before anything is scored.

    Args:
        targets: restored pictures, or folders of them.
        reference: folder of clean pictures, or one file.
        against: folder with another method's results, paired with the targets.
        pattern: how the references' names differ; see `restorecli.scoring.pairing.pair`.
        allow_missing: leave out what has no partner, and say so in the notes.
        find: what there is to score in files and folders.

    Raises:
        InputError: a path or a partner is missing.
        UsageError: a partner is ambiguous.
    """
    restored = find(targets)
    references = find([reference])
    pairing = pair(restored, references, pattern=pattern, allow_missing=allow_missing)
    notes = _missing_notes(pairing, "reference")
    others: dict[Path, Path] = {}
    if against is not None:
        paired = Found(
            pictures=tuple(target for target, _ in pairing.pairs),
            ignored=0,
            from_folder=restored.from_folder,
        )
        against_pairing = pair(paired, find([against]), allow_missing=allow_missing)
        notes += _missing_notes(against_pairing, "picture to compare with")
        others = {target.path: other.path for target, other in against_pairing.pairs}
    notes += _ignored_notes(restored.ignored + references.ignored)
    names = _names([target for target, _ in pairing.pairs])
    tasks = tuple(
        Task(name=name, restored=target.path, reference=ref.path, other=others.get(target.path))
        for name, (target, ref) in zip(names, pairing.pairs, strict=True)
    )
    return Plan(tasks=tasks, notes=tuple(notes))


def score_all(
    tasks: Sequence[Task],
    protocol: Protocol,
    *,
    extras: Sequence[str] = (),
    other_label: str = "other",
    jobs: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Iterator[Row]:
    """Score every task, in order; a picture that cannot be scored becomes a failed row.

    Args:
        tasks: what to score.
        protocol: how.
        extras: names of further scores.
        other_label: what the other method is called in the rows.
        jobs: processes; by default one per available core. Learned scores always use one.
        max_pixels: pictures that promise more are not decoded.

    Raises:
        UsageError: an extra score is unknown or its package is not installed.
    """
    for name in extras:  # before the first picture is read
        extra_metric(name).load()
    if any(EXTRA_METRICS[name].learned for name in extras):
        jobs = 1
    read = partial(read_pixels, max_pixels=max_pixels)
    row = partial(_row, protocol=protocol, extras=tuple(extras), other_label=other_label, read=read)
    yield from rows_of(tasks, row, jobs)


def rows_of(
    tasks: Sequence[Task], row: Callable[[Task], Row], jobs: int | None = None
) -> Iterator[Row]:
    """``row`` of every task, in order; on several processes where that is worth it.

    Args:
        tasks: what to score.
        row: scores one; must be picklable.
        jobs: processes; by default one per available core.
    """
    jobs = available_cores() if jobs is None else jobs
    keep_freed_memory()
    if jobs == 1 or len(tasks) < WORTH_A_POOL:
        yield from map(row, tasks)
        return
    try:
        executor = ProcessPoolExecutor(
            jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
        )
    except (OSError, ImportError):  # no /dev/shm, as in some containers: no semaphores
        yield from map(row, tasks)
        return
    try:
        yield from executor.map(row, tasks, chunksize=PAIRS_PER_MESSAGE)
    finally:
        executor.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class InPass:
    """Scores while restoring: input and result of each picture against its reference."""

    protocol: Protocol
    references: Mapping[Path, Path]  # input → reference
    notes: tuple[str, ...] = ()  # on what could not be paired
    max_pixels: int = DEFAULT_MAX_PIXELS  # pictures that promise more are not decoded

    def scores(self, source: Path, picture: Path) -> dict[str, float]:
        """Scores of ``picture``, which shows what ``source`` shows; none without a reference.

        Both are read from their files, so that `restore metrics` prints the same numbers.
        """
        reference = self.references.get(source)
        if reference is None:
            return {}
        read = partial(read_pixels, max_pixels=self.max_pixels)
        return score(read(picture), read(reference), self.protocol)

    def scores_of(self, source: Path, photo: Photo) -> dict[str, float]:
        """Scores of a picture in memory that shows what ``source`` shows."""
        reference = self.references.get(source)
        if reference is None:
            return {}
        clean = read_pixels(reference, max_pixels=self.max_pixels)
        return score(over_white(photo), clean, self.protocol)


def in_pass(inputs: Found, reference: Path, protocol: Protocol, *, allow_missing: bool) -> InPass:
    """Find the reference of every input before anything is restored; raises like `plan`."""
    if not inputs.pictures:
        return InPass(protocol=protocol, references={})
    found = find_pictures([reference])
    pairing = pair(inputs, found, allow_missing=allow_missing)
    return InPass(
        protocol=protocol,
        references={target.path: partner.path for target, partner in pairing.pairs},
        notes=(*_missing_notes(pairing, "reference"), *_ignored_notes(found.ignored)),
    )


def _start_worker() -> None:
    import cv2

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the parent decides what Ctrl-C means
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(1)
    keep_freed_memory()


def _row(
    task: Task, *, protocol: Protocol, extras: tuple[str, ...], other_label: str, read: Reader
) -> Row:
    start = time.perf_counter()
    known: dict[str, Any] = {
        "name": task.name,
        "output": str(task.restored),
        "reference": str(task.reference),
    }
    try:
        reference = read(task.reference)
        restored = read(task.restored)
        known |= {"height_px": restored.shape[0], "width_px": restored.shape[1]}
        known["scores_after"] = _scores(restored, reference, protocol, extras)
        if task.other is not None:
            other = _scores(read(task.other), reference, protocol, extras)
            known["others"] = (
                LabelledPicture(label=other_label, path=str(task.other), scores=other),
            )
    except RestoreError as error:
        return Row(**known, status="failed", error=str(error))
    return Row(**known, elapsed_s=time.perf_counter() - start)


def _scores(
    restored: NDArray[Any], reference: NDArray[Any], protocol: Protocol, extras: Sequence[str]
) -> dict[str, float]:
    scores = score(restored, reference, protocol)
    return scores | {name: extra_metric(name).load()(restored, reference) for name in extras}


def _missing_notes(pairing: Pairing, what: str) -> list[str]:
    notes = [f"No {what} for {picture.relative}; left out." for picture in pairing.without_partner]
    return notes + [f"{picture.path} is the {what} of nothing." for picture in pairing.unused]


def _ignored_notes(ignored: int) -> list[str]:
    what = "files in the folders are no pictures and were left alone."
    return [f"{ignored} {what}"] if ignored else []


def _names(pictures: Sequence[Picture]) -> list[str]:
    """Relative paths, or whole ones where two would be the same."""
    times = Counter(picture.relative for picture in pictures)
    return [str(p.relative if times[p.relative] == 1 else p.path) for p in pictures]
