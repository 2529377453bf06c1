"""The only module that draws: progress, lines and tables, all on stderr unless they are data."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from restorecli.errors import RestoreError
from restorecli.machine import log
from restorecli.report import Report, Row, image_line, summary_line
from restorecli.report.data import AFTER
from restorecli.report.words import duration_text, number, printable, score_label


class Words(Console):
    """A console for people, which also keeps in the log what it prints."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's."""
        super().print(*objects, **options)
        keep(*objects)


def keep(*objects: object) -> None:
    """Keep markup in the log, whether or not it was printed."""
    if objects and all(isinstance(one, str) for one in objects):
        log.told(" ".join(Text.from_markup(str(one)).plain for one in objects))


def words() -> Words:
    """Console for people: stderr, plain when it is no terminal (rich honours ``NO_COLOR``)."""
    return Words(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def show_why(text: str) -> None:
    """A reason that was asked for by ``-v``, on stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True, emoji=False).print(
        f"[dim]{_safe(text)}[/]"
    )


def show_error(error: RestoreError) -> None:
    """One sentence, and what to do."""
    console = words()
    console.print(f"[bold red]Error:[/] {_safe(error.message)}")
    if error.hint:
        console.print(f"  {_safe(error.hint)}")


def show_note(text: str) -> None:
    """A sentence for people, on stderr."""
    words().print(_safe(text))


def show_written(path: Path) -> None:
    """That a file was written, and how large it is, on stderr."""
    with suppress(OSError):
        show_note(f"Wrote {path}, {bytes_text(path.stat().st_size)}")
        return
    show_note(f"Wrote {path}")


def bytes_text(size_bytes: float) -> str:
    """Bytes as files are told: ``7.6 MB``."""
    units = ["bytes", "kB", "MB", "GB"]
    while size_bytes >= 1000 and len(units) > 1:
        size_bytes /= 1000
        del units[0]
    return f"{size_bytes:.0f} {units[0]}" if size_bytes >= 100 else f"{size_bytes:.2g} {units[0]}"


def show_line(line: str) -> None:
    """One line of data on stdout, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def show_json(data: Mapping[str, object]) -> None:
    """Data as one line of JSON on stdout."""
    show_line(json.dumps(data))


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: it is what the user asked for."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    Console(highlight=False, emoji=False).print(table)


def show_columns(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()
) -> None:
    """Rows in columns on stdout; a first cell that is much wider than others has its own line."""
    first = min(max(len(row[0]) for row in [headings, *rows]), WIDEST_FIRST)
    others = [max(map(len, cells)) for cells in list(zip(headings, *rows, strict=True))[1:]]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, (first, *others), strict=True))
        ]
        return " ".join(cells).rstrip()

    for row in [headings, *rows]:
        if len(row[0]) > first:
            show_line(printable(row[0]))
            row = ["", *row[1:]]
        show_line(printable(line(row)))


def show_list(items: Sequence[tuple[str, str]]) -> None:
    """Headlines with details below them, on stdout."""
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    for headline, details in items:
        console.print(f"[bold]{escape(headline)}[/]")
        console.print(f"    {escape(details)}")


WIDEST_FIRST = 30  # columns of an id; longer ones have a line of their own
LONG_S = 5  # expected of a picture that has a bar of its own
SURE_SHARE = 0.1  # of a picture, before its time is told


class Pace:
    """How far one picture is, and how long it still takes."""

    def __init__(self) -> None:
        self.share = 0.0
        self._started_s = time.monotonic()

    def advance(self, share: float) -> None:
        """``share`` more has been done."""
        self.share = min(self.share + share, 1)

    def left_s(self) -> float | None:
        """Seconds to the end; ``None`` before enough is done to tell."""
        if self.share < SURE_SHARE:
            return None
        return (time.monotonic() - self._started_s) * (1 / self.share - 1)

    def is_long(self) -> bool:
        """Whether the whole takes so long that a bar of its own is wanted."""
        return (time.monotonic() - self._started_s) >= LONG_S * self.share > 0


class RunDisplay:
    """A line for each image and, on a terminal, a bar by pixels. A context manager."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.console = words()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[done]}"),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self.total = 0
        self.finished = 0
        self.started_s = time.monotonic()
        self.picture = Pace()
        add = partial(self.progress.add_task, done="", left="")
        self.files = add("images", total=None)
        self.inside = add("current", total=1, visible=False)

    def __enter__(self) -> RunDisplay:
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def start(self, total: int) -> None:
        """Work on ``total`` images begins."""
        self.total, self.finished, self.started_s = total, 0, time.monotonic()
        self.progress.update(self.files, total=total, done=f"0/{total}")

    def begin(self) -> None:
        """Work on the next image begins."""
        self.picture = Pace()
        self.progress.reset(self.inside, visible=False, done="", left="")

    def advance(self, share: float) -> None:
        """``share`` of the current image has been done."""
        self.picture.advance(share)
        left_s = self.picture.left_s()
        if left_s is None:
            return
        self.progress.update(
            self.inside,
            completed=self.picture.share,
            visible=self.picture.is_long(),
            done=f"{self.picture.share:.0%}",
            left=f"{duration_text(left_s)} left",
        )

    def finish(self, row: Row) -> None:
        """One input has come to its end."""
        self.finished += 1
        each_s = (time.monotonic() - self.started_s) / self.finished
        left = self.total - self.finished
        self.progress.update(
            self.files,
            completed=self.finished,
            done=f"{self.finished}/{self.total}",
            left=f"{duration_text(each_s * left)} left" if left else "",
        )
        if self.as_json:
            show_line(image_line(row))
        for line in self._lines(row):
            say = self.console.print if not self.quiet or row.error else keep
            say(line)

    def _lines(self, row: Row) -> Iterator[str]:
        if row.error:
            yield (f"[red]failed[/]  {_safe(row.name)}: {_safe(row.error)}")
        elif row.status == "skipped":
            yield (f"[dim]kept[/]    {_safe(str(row.output))}")
        else:
            tiles = f"tiles of {row.tile_px} px" if row.tile_px else "a detail"
            how = "whole image" if row.exact else tiles
            yield (
                f"[green]done[/]    {_safe(row.name)} → {_safe(str(row.output))}  "
                f"{duration_text(row.elapsed_s or 0)}, {how}"
            )
        for note in row.notes:
            yield (f"        note: {_safe(note)}")


class Counted:
    """A bar for a few things that take long each, on a terminal. A context manager."""

    def __init__(self, total: int) -> None:
        console = words()
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.bar = self.progress.add_task("", total=total)

    def __enter__(self) -> Counted:
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def begin(self, name: str) -> None:
        """Work on ``name`` begins."""
        self.progress.update(self.bar, description=printable(name))

    def finish(self, line: str) -> None:
        """It has ended, with this to tell."""
        self.progress.advance(self.bar)
        self.progress.console.print(_safe(line))


class FrameDisplay:
    """How many frames have been restored, and how fast, on a terminal. A context manager."""

    def __init__(self, *, quiet: bool) -> None:
        console = words()
        self.progress = Progress(
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self.line = self.progress.add_task("waiting for frames")

    def __enter__(self) -> FrameDisplay:
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def show(self, count: int, fps: float) -> None:
        """``count`` frames have been restored, ``fps`` in a second on average."""
        self.progress.update(self.line, description=f"{count} frames, {fps:.2f} a second")


class TransferDisplay:
    """A bar by bytes for one download, on a terminal. A context manager."""

    def __init__(self, title: str) -> None:
        console = words()
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.bar = self.progress.add_task(printable(title), total=None)

    def __enter__(self) -> TransferDisplay:
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def advance(self, size_bytes: int, total_bytes: int | None) -> None:
        """``size_bytes`` more have come, of ``total_bytes`` if that is known."""
        self.progress.update(self.bar, advance=size_bytes, total=total_bytes)


def show_plan(lines: Sequence[Mapping[str, str]], *, as_json: bool) -> None:
    """What a run would do: each input and its result, or why there will be none."""
    console = words()
    for line in lines:
        if as_json:
            show_json(line)
        elif line["status"] == "failed":
            console.print(f"would fail  {_safe(line['input'])}: {_safe(line['error'])}")
        elif line["status"] == "skipped":
            console.print(f"would keep {_safe(line['output'])}")
        else:
            verb = "replace" if line["status"] == "replacing" else "write"
            console.print(f"would {verb} {_safe(line['output'])} from {_safe(line['input'])}")


def show_degraded(
    source: str, written: Sequence[str], error: RestoreError | None, *, as_json: bool, quiet: bool
) -> None:
    """What was made of one picture that was spoiled on request, or why nothing was."""
    if as_json:
        status = {"status": "failed", "error": str(error)} if error else {"status": "ok"}
        show_json({"input": source, **({} if error else {"written": list(written)}), **status})
    if error:
        words().print(f"[red]failed[/]  {_safe(source)}: {_safe(str(error))}")
    elif not quiet:
        words().print(f"[green]done[/]    {_safe(source)} → {_safe(' and '.join(written))}")


def show_summary(report: Report, *, as_json: bool, quiet: bool) -> None:
    """Counts, mean scores and settings of a run."""
    if as_json:
        show_line(summary_line(report))
    counts = report.counts
    said = [f"{counts['ok']} restored"]
    said += [f"{n} {word}" for word, n in counts.items() if n and word != "ok"]
    settings = report.settings
    say = keep if quiet else words().print
    say(
        f"{'Interrupted: ' if report.interrupted else ''}{', '.join(said)} in "
        f"{duration_text(report.elapsed_s or 0)} "
        f"({settings.model_id}, {settings.device}, {settings.precision})"
    )
    if setting := settings.options.get("as_published"):
        say(f"As published: {_safe(setting)}")
    for note in report.notes:
        say(_safe(note))
    for line in _means(report):
        say(line)


def _means(report: Report) -> list[str]:
    """Of each score: the mean before, after each step of a chain, and after all."""
    lines = []
    for end in (summary for summary in report.summary if summary.of == "after"):
        way = [
            number(one.mean, one.score)
            + (f" ({one.of.removeprefix(AFTER)})" if one.of.startswith(AFTER) else "")
            for one in report.summary
            if one.score == end.score and (one.of == "before" or one.of.startswith(AFTER))
        ]
        way = [*(way or [""]), number(end.mean, end.score)]
        lines.append(f"{score_label(end.score)}: {' → '.join(way)} (mean of {end.count})")
    return lines


def _safe(text: str) -> str:
    """Names and messages must steer neither the terminal nor rich."""
    return escape(printable(text))
