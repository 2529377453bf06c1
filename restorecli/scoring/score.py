"""Score restored pictures against their references: read, compare, summarise, judge."""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restorecli.errors import QualityError, RestoreError, UsageError
from restorecli.images import read_photo
from restorecli.images.finding import Found, Picture, find_pictures
from restorecli.machine.allocator import keep_freed_memory
from restorecli.machine.cores import available_cores
from restorecli.machine.versions import versions
from restorecli.report import Comparison, LabelledPicture, Report, Row, Settings
from restorecli.scoring.metrics import EXTRA_METRICS, Protocol, extra_metric, score
from restorecli.scoring.pairing import Pairing, pair

RESAMPLES = 10_000
CONFIDENCE = 0.95
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
) -> Plan:
    """Pair everything before anything is scored.

    Args:
        targets: restored pictures, or folders of them.
        reference: folder of clean pictures, or one file.
        against: folder with another method's results, paired with the targets.
        pattern: how the references' names differ; see `restorecli.scoring.pairing.pair`.
        allow_missing: leave out what has no partner, and say so in the notes.

    Raises:
        InputError: a path or a partner is missing.
        UsageError: a partner is ambiguous.
    """
    restored = find_pictures(targets)
    references = find_pictures([reference])
    pairing = pair(restored, references, pattern=pattern, allow_missing=allow_missing)
    notes = _missing_notes(pairing, "reference")
    others: dict[Path, Path] = {}
    if against is not None:
        paired = Found(
            pictures=tuple(target for target, _ in pairing.pairs),
            ignored=0,
            from_folder=restored.from_folder,
        )
        against_pairing = pair(paired, find_pictures([against]), allow_missing=allow_missing)
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
) -> Iterator[Row]:
    """Score every task, in order; a picture that cannot be scored becomes a failed row.

    Args:
        tasks: what to score.
        protocol: how.
        extras: names of further scores.
        other_label: what the other method is called in the rows.
        jobs: processes; by default one per available core. Learned scores always use one.

    Raises:
        UsageError: an extra score is unknown or its package is not installed.
    """
    for name in extras:  # before the first picture is read
        extra_metric(name).load()
    jobs = available_cores() if jobs is None else jobs
    if any(EXTRA_METRICS[name].learned for name in extras) or len(tasks) < WORTH_A_POOL:
        jobs = 1
    keep_freed_memory()
    work = [(task, protocol, tuple(extras), other_label) for task in tasks]
    if jobs == 1:
        yield from (_row(item) for item in work)
        return
    executor = ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        yield from executor.map(_row, work, chunksize=PAIRS_PER_MESSAGE)
    finally:
        executor.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class InPass:
    """Scores while restoring: input and result of each picture against its reference."""

    protocol: Protocol
    references: Mapping[Path, Path]  # input → reference
    notes: tuple[str, ...] = ()  # on what could not be paired

    def scores(self, source: Path, picture: Path) -> dict[str, float]:
        """Scores of ``picture``, which shows what ``source`` shows; none without a reference.

        Both are read from their files, so that `restore metrics` prints the same numbers.
        """
        reference = self.references.get(source)
        if reference is None:
            return {}
        return score(read_pixels(picture), read_pixels(reference), self.protocol)


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


def compose_report(
    rows: Iterable[Row],
    protocol: Protocol,
    *,
    title: str,
    notes: Sequence[str] = (),
    extras: Sequence[str] = (),
    other_label: str | None = None,
    elapsed_s: float | None = None,
    interrupted: bool = False,
) -> Report:
    """The report of a scoring run."""
    rows = tuple(rows)
    lower_is_better = [name for name in extras if not EXTRA_METRICS[name].higher_is_better]
    return Report(
        title=title,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        elapsed_s=elapsed_s,
        settings=Settings(
            command="metrics",
            protocol=protocol.name,
            protocol_text=protocol_text(protocol),
            versions=versions(),
            options={"with": ", ".join(extras)} if extras else {},
        ),
        rows=rows,
        comparisons=tuple(compare_methods(rows, other_label)) if other_label else (),
        notes=tuple(notes),
        interrupted=interrupted,
        lower_is_better=tuple(lower_is_better),
    )


def compare_methods(rows: Sequence[Row], label: str) -> list[Comparison]:
    """The paired difference of every score, this run minus the method called ``label``.

    The interval is the percentile bootstrap over pictures (Efron and Tibshirani, 1993), with
    10,000 resamples and a fixed seed: the same rows give the same interval.
    """
    pairs = [
        (row.scores_after, other.scores)
        for row in rows
        for other in row.others
        if other.label == label
    ]
    comparisons = []
    for name in dict.fromkeys(key for ours, _ in pairs for key in ours):
        both = [(ours[name], theirs[name]) for ours, theirs in pairs if name in theirs]
        finite = [(a, b) for a, b in both if math.isfinite(a) and math.isfinite(b)]
        differences = np.array([a - b for a, b in finite])
        low, high = bootstrap_interval(differences)
        comparisons.append(
            Comparison(
                score=name,
                label=label,
                count=len(finite),
                infinite=len(both) - len(finite),
                mean_difference=float(differences.mean()) if finite else None,
                low=low,
                high=high,
                higher=sum(a > b for a, b in both),
                lower=sum(a < b for a, b in both),
            )
        )
    return comparisons


def bootstrap_interval(differences: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """95 % percentile bootstrap interval of the mean; (None, None) for fewer than two values."""
    count = len(differences)
    if count < 2:
        return None, None
    rng = np.random.default_rng(0)
    means = [differences[rng.integers(count, size=count)].mean() for _ in range(RESAMPLES)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def parse_gates(
    texts: Sequence[str], protocol: Protocol, extras: Sequence[str]
) -> dict[str, float]:
    """``["psnr_y=30"]`` → ``{"psnr_y": 30.0}``; `UsageError` for scores that will not exist."""
    known = [*protocol.keys, *extras]
    gates = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if name not in known or math.isnan(limit):
            raise UsageError(
                f"--fail-under must look like {known[0]}=30, got {text!r}.",
                hint=f"Scores of this run: {', '.join(known)}.",
            )
        gates[name] = limit
    return gates


def check_gates(report: Report, gates: Mapping[str, float]) -> None:
    """Raise `QualityError` when a mean is worse than its limit.

    Worse is lower, or higher for scores where less is better. Infinite scores pass.
    """
    means = {s.score: s.mean for s in report.summary if s.of == "after"}
    for name, limit in gates.items():
        mean = means.get(name)
        if mean is None:
            continue
        less_is_better = name in report.lower_is_better
        if mean > limit if less_is_better else mean < limit:
            side = "above" if less_is_better else "below"
            raise QualityError(f"The mean {name} is {mean:.4f}, {side} the limit of {limit:g}.")


def protocol_text(protocol: Protocol) -> str:
    """A protocol in one sentence, for reports."""
    border = protocol.crop_border_px
    crop = f", {border} px left out at each edge" if border else ""
    return (
        f"{protocol.channel_text}{crop}; SSIM of Wang et al. (2004), 11×11 Gaussian, σ 1.5, "
        "valid region"
    )


def read_pixels(path: Path) -> NDArray[Any]:
    """The picture as it is seen: upright, and transparent parts over white.

    Returns:
        uint8 or uint16, (H, W, 3) RGB or (H, W) gray.

    Raises:
        InputError: the file cannot be read as a picture.
    """
    photo = read_photo(path)
    if photo.pixels.dtype == np.float32:
        photo = photo.in_depth(np.uint16)
    pixels, alpha = photo.pixels, photo.alpha
    if alpha is None:
        return pixels
    white = np.iinfo(pixels.dtype).max
    opacity = alpha.astype(np.float64) / np.iinfo(alpha.dtype).max
    if pixels.ndim == 3:
        opacity = opacity[..., None]
    return np.rint(pixels * opacity + white * (1 - opacity)).astype(pixels.dtype)


def _start_worker() -> None:
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    cv2.setNumThreads(1)
    keep_freed_memory()


def _row(work: tuple[Task, Protocol, tuple[str, ...], str]) -> Row:
    task, protocol, extras, other_label = work
    start = time.perf_counter()
    known: dict[str, Any] = {
        "name": task.name,
        "output": str(task.restored),
        "reference": str(task.reference),
    }
    try:
        reference = read_pixels(task.reference)
        restored = read_pixels(task.restored)
        known |= {"height_px": restored.shape[0], "width_px": restored.shape[1]}
        known["scores_after"] = _scores(restored, reference, protocol, extras)
        if task.other is not None:
            other = _scores(read_pixels(task.other), reference, protocol, extras)
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
