"""What the scoring commands draw on a terminal: results on stdout, words and progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from restorecli.report import Report, Row
from restorecli.report.data import score_columns, scores_by_kind
from restorecli.report.words import number, printable, score_label
from restorecli.scoring.metrics import Protocol
from restorecli.scoring.metrics.spectra import SpectralProtocol

LEAST_FOR_WORST = 2  # pictures, for one to be worse than another
NAME_COLUMNS, BORDER_COLUMNS = 24, 3  # of a table, beside its figures
WIDE = 10_000  # columns of a table that goes into a pipe: nothing is cut there


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The rows that were scored before the end or Ctrl-C."""

    rows: tuple[Row, ...]
    interrupted: bool
    elapsed_s: float


def collect(rows: Iterable[Row], *, total: int) -> Outcome:
    """Run through ``rows`` with a progress bar; Ctrl-C keeps what is done."""
    start = time.perf_counter()
    done: list[Row] = []
    interrupted = False
    console = Console(stderr=True, emoji=False)
    bar = Progress(
        TextColumn("Scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=total)
        try:
            for row in rows:
                done.append(row)
                bar.advance(task)
        except KeyboardInterrupt:
            interrupted = True
    return Outcome(rows=tuple(done), interrupted=interrupted, elapsed_s=time.perf_counter() - start)


def scores(report: Report) -> None:
    """The per-picture table, the summary, the paired comparison and the notes."""
    out, words = _stdout(), Console(stderr=True, emoji=False)
    for columns in _that_fit(score_columns(report.rows), out.width):
        out.print(_pictures(report, columns))
    out.print(_summary(report))
    _worst(report, out)
    if report.comparisons:
        out.print(_comparisons(report))
    for row in report.rows:
        if row.status == "failed":
            words.print(Text(printable(f"{row.name}: {row.error}"), style="red"))
    for note in report.notes:
        words.print(Text(printable(note), style="yellow"))


def _that_fit(
    columns: Sequence[tuple[str, str]], width: int
) -> Iterator[Sequence[tuple[str, str]]]:
    """Columns for one table after another, such that each leaves room for a name."""
    part: list[tuple[str, str]] = []
    left = width - NAME_COLUMNS
    for score, of in columns:
        needed = max(map(len, _heading(score, of).plain.splitlines())) + BORDER_COLUMNS
        if part and needed > left:
            yield part
            part, left = [], width - NAME_COLUMNS
        part.append((score, of))
        left -= needed
    yield part


def _pictures(report: Report, columns: Sequence[tuple[str, str]]) -> Table:
    table = Table(title=f"Protocol {report.settings.protocol}", title_justify="left")
    table.add_column("picture", overflow="fold")
    for score, of in columns:
        table.add_column(_heading(score, of), justify="right")
    for row in report.rows:
        if row.status == "ok":
            by_kind = scores_by_kind(row)
            cells = [number(by_kind.get(of, {}).get(score), score) for score, of in columns]
            table.add_row(Text(printable(row.name)), *cells)
    return table


def protocols(
    known: Iterable[Protocol], of_cubes: Iterable[SpectralProtocol], *, as_json: bool
) -> None:
    """Every protocol with its source; those of cubes last."""
    if as_json:
        lines(json.dumps(asdict(protocol)) for protocol in known)
        lines(
            json.dumps(
                {"name": p.name, "channel": "bands", "summary": p.summary, "source": p.source}
            )
            for p in of_cubes
        )
        return
    out = _stdout()
    for protocol in known:
        out.print(Text(protocol.name, style="bold"), Text(f"({', '.join(protocol.keys)})"))
        out.print(Text(f"  for      {protocol.summary}"))
        out.print(Text(f"  channel  {protocol.channel_text}"))
        out.print(Text(f"  source   {protocol.source}"))
        if protocol.note:
            out.print(Text(f"  note     {protocol.note}"))
        if protocol.aliases:
            out.print(Text(f"  also as  {', '.join(protocol.aliases)}"))
    for cubes in of_cubes:
        out.print(Text(cubes.name, style="bold"), Text(f"({', '.join(cubes.keys)})"))
        out.print(Text(f"  for      cubes of spectra: {cubes.summary}"))
        out.print(Text(f"  source   {cubes.source}"))


def lines(texts: Iterable[str]) -> None:
    """Lines of data, as they are."""
    for text in texts:
        sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _summary(report: Report) -> Table:
    table = Table(title="Summary", title_justify="left")
    table.add_column("score")
    for heading in ("mean", "median", "lowest", "highest", "pictures", "identical"):
        table.add_column(heading, justify="right")
    for s in report.summary:
        values = (s.mean, s.median, s.minimum, s.maximum)
        table.add_row(
            _heading(s.score, s.of),
            *(number(value, s.score) for value in values),
            str(s.count),
            str(s.infinite),
        )
    return table


def _worst(report: Report, out: Console) -> None:
    """The worst pictures by each score of the results, one a line."""
    by_name = {row.name: scores_by_kind(row) for row in report.rows if row.status == "ok"}
    for s in report.summary:
        if s.of != "after" or s.count < LEAST_FOR_WORST:
            continue
        out.print(Text(f"Worst by {score_label(s.score)}"), style="italic")
        for name in s.worst:
            value = number(by_name.get(name, {}).get(s.of, {}).get(s.score), s.score)
            out.print(Text(f"  {value:>8}  {printable(name)}"), soft_wrap=True)


def _comparisons(report: Report) -> Table:
    table = Table(title="Paired difference, this minus the other", title_justify="left")
    table.add_column("score")
    for heading in ("against", "mean", "95 % interval", "higher on", "lower on", "pairs"):
        table.add_column(heading, justify="right")
    for c in report.comparisons:
        digits = 3 if c.score.startswith("psnr") else 5
        interval = "" if c.low is None else f"{c.low:+.{digits}f} … {c.high:+.{digits}f}"
        mean = "" if c.mean_difference is None else f"{c.mean_difference:+.{digits}f}"
        table.add_row(
            score_label(c.score),
            Text(printable(c.label)),
            mean,
            interval,
            str(c.higher),
            str(c.lower),
            str(c.count),
        )
    return table


def _heading(score: str, of: str) -> Text:
    label = score_label(score)
    return Text(label if of == "after" else f"{label}\n{printable(of)}")


def _stdout() -> Console:
    console = Console(emoji=False)
    return console if console.is_terminal else Console(width=WIDE, highlight=False, emoji=False)
