"""The only module that draws: progress, lines and tables, all on stderr unless they are data."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from restorecli.errors import RestoreError
from restorecli.results import FileResult, Summary


def words() -> Console:
    """Console for people: stderr, plain when it is no terminal (rich honours ``NO_COLOR``)."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def show_error(error: RestoreError) -> None:
    """One sentence, and what to do."""
    console = words()
    console.print(f"[bold red]Error:[/] {escape(_printable(error.message))}")
    if error.hint:
        console.print(f"  {escape(_printable(error.hint))}")


def show_json(data: Mapping[str, Any]) -> None:
    """One line of JSON on stdout."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: it is what the user asked for."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    Console(highlight=False).print(table)


def show_list(items: Sequence[tuple[str, str]]) -> None:
    """Headlines with details below them, on stdout."""
    console = Console(highlight=False, soft_wrap=True)
    for headline, details in items:
        console.print(f"[bold]{escape(headline)}[/]")
        console.print(f"    {escape(details)}")


class RunDisplay:
    """A line for each image and, on a terminal, a bar by pixels. A context manager."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.console = words()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self.files = self.progress.add_task("images", total=None)
        self.inside = self.progress.add_task("current", total=100)

    def __enter__(self) -> RunDisplay:
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def start(self, total: int) -> None:
        """Work on ``total`` images begins."""
        self.progress.update(self.files, total=total)

    def advance(self, share: float) -> None:
        """``share`` of the current image has been done."""
        self.progress.advance(self.inside, 100 * share)

    def finish(self, result: FileResult) -> None:
        """One input has come to its end."""
        self.progress.advance(self.files)
        self.progress.reset(self.inside)
        if self.as_json:
            show_json(result.as_json())
        if not self.quiet or result.error:
            self._say(result)

    def _say(self, result: FileResult) -> None:
        name = escape(_printable(str(result.input)))
        if result.error:
            self.console.print(f"[red]failed[/]  {name}: {escape(_printable(str(result.error)))}")
        elif result.status == "skipped":
            self.console.print(f"[dim]kept[/]    {escape(_printable(str(result.output)))}")
        else:
            how = "whole image" if result.exact else f"tiles of {result.tile_px} px"
            target = escape(_printable(str(result.output)))
            self.console.print(
                f"[green]done[/]    {name} → {target}  {result.elapsed_s:.1f} s, {how}"
            )
        for note in result.notes:
            self.console.print(f"        note: {escape(note)}")


def show_plan(pairs: Sequence[tuple[str, str]], *, as_json: bool) -> None:
    """What a run would do: each input and its result."""
    for source, target in pairs:
        if as_json:
            show_json({"input": source, "output": target, "status": "planned"})
        else:
            words().print(
                f"would write {escape(_printable(target))} from {escape(_printable(source))}"
            )


def show_summary(summary: Summary, *, as_json: bool, quiet: bool) -> None:
    """Counts and settings of a run."""
    if as_json:
        show_json(summary.as_json())
    if quiet:
        return
    ended = "Interrupted: " if summary.interrupted else ""
    parts = [f"{summary.count('done')} restored"]
    counts = {"skipped": summary.count("skipped"), "failed": summary.count("failed")}
    parts += [f"{n} {word}" for word, n in counts.items() if n]
    if summary.ignored:
        parts.append(f"{summary.ignored} other file(s) ignored")
    words().print(
        f"{ended}{', '.join(parts)} in {summary.elapsed_s:.1f} s "
        f"({summary.model}, {summary.device}, {summary.precision})"
    )


def _printable(text: str) -> str:
    """Control characters in names and messages must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
