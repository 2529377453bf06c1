"""The report as one HTML page that works from disk, without a network.

What people typed or named reaches the page as escaped text or as JSON, never as markup, and the
page's own policy lets no other script run and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from restorecli.limits import DEFAULT_MAX_PIXELS
from restorecli.report.data import Comparison, Report, Row, Summary, score_columns, scores_by_kind
from restorecli.report.parts import part, script_safe, templates
from restorecli.report.pictures import Look, Source, file_link, source, thumbnail, total_bytes
from restorecli.report.plot import MOST_DOTS, distribution
from restorecli.report.words import (
    duration_text,
    kind_label,
    number,
    printable,
    score_label,
    score_text,
    size_text,
    when,
)

STYLES = ("base.css", "page.css", "viewer.css")
INLINE_BYTES = 16 * 2**20  # pictures of a page up to this size go into it, larger ones are linked


def html(
    report: Report,
    *,
    folder: Path,
    inline_bytes: int = INLINE_BYTES,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    look: Look | None = None,
) -> str:
    """The whole page.

    Args:
        report: what to show.
        folder: where the page will lie; linked pictures are relative to it.
        inline_bytes: pictures of at most this many bytes together are put into the page.
        max_pixels: pictures that promise more are not decoded, and not shown.
        look: what to show of a file that is no picture.
    """
    from markupsafe import Markup  # with Jinja2, which only a page needs

    shown = [row.pictures() for row in report.rows]
    inline = total_bytes(picture.path for row in shown for picture in row) <= inline_bytes
    find = partial(source, folder=folder, inline=inline, max_pixels=max_pixels, look=look)
    with ThreadPoolExecutor() as pool:
        thumbnails = list(pool.map(lambda row: _thumbnail(row, max_pixels, look), report.rows))
        sources = [list(pool.map(find, [Path(picture.path) for picture in row])) for row in shown]
    columns = _columns(report)
    script = part("viewer.js") + part("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = templates().get_template("page.html")
    return page.render(
        report=report,
        policy="default-src 'none'; style-src 'unsafe-inline'; img-src data: file: 'self'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        style=Markup("".join(map(part, STYLES))),
        script=Markup(script),
        data=Markup(script_safe(_pictures(report, thumbnails, sources, folder))),
        lead=_lead(report),
        cards=_cards(report),
        comparisons=_comparisons(report),
        figures=[Markup(svg) for svg in _figures(report)],
        crowded=len(report.rows) > MOST_DOTS,
        rows_by_name={row.name: index for index, row in enumerate(report.rows)},
        settings=_settings(report),
        columns=columns,
        table=_lines(report, columns, thumbnails),
        where=_where(sources, inline=inline),
    )


def _pictures(
    report: Report,
    thumbnails: Sequence[str | None],
    sources: Sequence[Sequence[Source]],
    folder: Path,
) -> list[object]:
    """What the page's script shows of each row."""
    return [
        {
            "name": printable(row.name),
            "thumbnail": thumb,
            "pictures": [
                {
                    "label": printable(picture.label),
                    "scores": ", ".join(score_text(*score) for score in picture.scores.items()),
                    "src": found.url,
                    "reduced": found.reduced,
                    "file": file_link(picture.path, folder),
                }
                for picture, found in zip(row.pictures(), row_sources, strict=True)
            ],
        }
        for row, thumb, row_sources in zip(report.rows, thumbnails, sources, strict=True)
    ]


def _lead(report: Report) -> str:
    counts = [f"{n} {status}" for status, n in report.counts.items() if n]
    words = [", ".join(counts) or "no pictures"]
    if report.settings.task or report.settings.command:
        words.insert(0, report.settings.task or report.settings.command)
    if report.settings.model_id:
        words.append(f"model {report.settings.model_id}")
    if report.settings.protocol:
        words.append(f"protocol {report.settings.protocol}")
    if report.elapsed_s is not None:
        words.append(duration_text(report.elapsed_s))
    if report.interrupted:
        words.append("interrupted before the end")
    return " · ".join([*words, when(report.created)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One figure to see at first."""

    what: str
    value: str
    more: str
    gain: str = ""
    kind: str = ""  # of the gain: better or worse; of the card: alarm


def _cards(report: Report) -> list[Card]:
    """One card per score: the mean, what it was before, and the gain."""
    by_score: dict[str, dict[str, Summary]] = {}
    for summary in report.summary:
        by_score.setdefault(summary.score, {})[summary.of] = summary
    cards = [_card(score, kinds, report) for score, kinds in by_score.items()]
    if failed := report.counts["failed"]:
        cards.append(Card(what="Failed", value=str(failed), more="see the table", kind="alarm"))
    return cards


def _card(score: str, kinds: Mapping[str, Summary], report: Report) -> Card:
    main = kinds.get("after") or next(iter(kinds.values()))
    before = kinds.get("before")
    lines = [f"median {number(main.median, score)}"]
    if main.infinite:
        lines.append(f"{main.infinite} identical, left out")
    gain, kind = "", ""
    if before and before is not main and before.mean is not None and main.mean is not None:
        difference = main.mean - before.mean
        better = (difference < 0) == (score in report.lower_is_better)
        gain = f"{number(difference, score, sign=True)} from {number(before.mean, score)}"
        kind = "better" if better else "worse"
    return Card(
        what=f"Mean {score_label(score)}",
        value=number(main.mean, score) or "∞",
        more="; ".join(lines),
        gain=gain,
        kind=kind,
    )


def _comparisons(report: Report) -> list[tuple[Comparison, list[object]]]:
    """Each comparison, and its numbers as they are shown."""
    shown: list[tuple[Comparison, list[object]]] = []
    for c in report.comparisons:
        interval = ""
        if c.low is not None and c.high is not None:
            ends = (number(value, c.score, sign=True) for value in (c.low, c.high))
            interval = " … ".join(ends)
        mean = number(c.mean_difference, c.score, sign=True)
        shown.append((c, [mean, interval, c.higher, c.lower, c.count]))
    return shown


def _figures(report: Report) -> Iterator[str]:
    """A plot for each score, as far as plots can be made."""
    for score in dict.fromkeys(summary.score for summary in report.summary):
        values: dict[str, list[float]] = {}
        for row in report.rows:
            for kind, scores in scores_by_kind(row).items():
                if score in scores:
                    values.setdefault(kind_label(kind), []).append(scores[score])
        if svg := distribution(score, values, protocol=report.settings.protocol):
            yield svg


def _settings(report: Report) -> list[tuple[str, str]]:
    """What the run was made with, as (name, value)."""
    settings = report.settings
    exact = {True: "exact (whole picture or strips)", False: "tiled", None: None}[settings.exact]
    values: dict[str, object] = {
        "Command": settings.command,
        "Task": settings.task,
        "Model": settings.model_id,
        "Model SHA-256": settings.model_sha256,
        "Protocol": settings.protocol,
        "Protocol in words": settings.protocol_text,
        "Device": settings.device,
        "Precision": settings.precision,
        "Evaluation": exact,
        "Written": when(report.created),
        "Time": None if report.elapsed_s is None else duration_text(report.elapsed_s),
        **{key.replace("_", " ").capitalize(): value for key, value in settings.options.items()},
        "Versions": ", ".join(f"{name} {v}" for name, v in settings.versions.items()) or None,
    }
    return [(key, str(value)) for key, value in values.items() if value is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of the table: what it shows, and what it is sorted by."""

    text: str
    sort: object
    kind: str = "n"  # class of the cell; empty for words


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column beside that of the pictures."""

    label: str
    cell: Callable[[Row], Cell]
    of: str = ""  # which picture a score is of
    kind: str = "number"  # how it is sorted: number or text


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table."""

    row: Row
    thumbnail: bool
    opens: bool  # there is something to compare
    cells: Sequence[Cell]


def _lines(
    report: Report, columns: Sequence[Column], thumbnails: Sequence[str | None]
) -> list[Line]:
    return [
        Line(
            row=row,
            thumbnail=thumb is not None,
            opens=len(row.pictures()) > 1,
            cells=[column.cell(row) for column in columns],
        )
        for row, thumb in zip(report.rows, thumbnails, strict=True)
    ]


def _columns(report: Report) -> list[Column]:
    """The columns that have something to say."""
    rows = report.rows
    scores = score_columns(rows)
    columns = []
    if report.counts["ok"] < len(rows):
        columns.append(Column(label="Status", cell=_status, kind="text"))
    for score, of in scores:
        label = score_label(score)
        columns.append(Column(label=label, of=kind_label(of), cell=partial(_score, score, of)))
        if of == "after" and (score, "before") in scores:
            columns.append(Column(label=label, of="Gain", cell=partial(_gain, score)))
    if any(row.width_px for row in rows):
        columns.append(Column(label="Size", cell=_size))
    if len({row.exact for row in rows if row.status == "ok"}) > 1:
        columns.append(Column(label="Evaluation", cell=_evaluation, kind="text"))
    if any(row.elapsed_s is not None for row in rows):
        columns.append(Column(label="Time", cell=_time))
    if any(row.peak_memory_bytes for row in rows):
        columns.append(Column(label="Memory", cell=_memory))
    return columns


def _status(row: Row) -> Cell:
    return Cell(text=row.status, sort=row.status, kind="status")


def _score(score: str, of: str, row: Row) -> Cell:
    value = scores_by_kind(row).get(of, {}).get(score)
    return _numeric(value, number(value, score))


def _gain(score: str, row: Row) -> Cell:
    before, after = row.scores_before.get(score), row.scores_after.get(score)
    gain = None if before is None or after is None else after - before
    gain = None if gain is None or math.isnan(gain) else gain
    return _numeric(gain, number(gain, score, sign=True))


def _size(row: Row) -> Cell:
    if not (row.width_px and row.height_px):
        return _numeric(None, "")
    return _numeric(row.width_px * row.height_px, f"{row.width_px}×{row.height_px}")


def _evaluation(row: Row) -> Cell:
    text = {True: "exact", False: f"tiles {row.tile_px or ''}".strip(), None: ""}[row.exact]
    return Cell(text=text, sort=text, kind="")


def _time(row: Row) -> Cell:
    return _numeric(row.elapsed_s, "" if row.elapsed_s is None else duration_text(row.elapsed_s))


def _memory(row: Row) -> Cell:
    used = row.peak_memory_bytes
    return _numeric(used, "" if used is None else size_text(used))


def _numeric(value: float | None, text: str) -> Cell:
    return Cell(text=text, sort="" if value is None else value)


def _where(sources: Iterable[Iterable[Source]], *, inline: bool) -> str:
    urls = [found for row in sources for found in row]
    if not urls:
        return ""
    if inline:
        return "The pictures are inside this file: it can be sent by itself."
    return (
        "The pictures are linked, because together they are large: keep them where they are "
        "beside this file, or the comparison above stays empty."
    )


def _thumbnail(row: Row, max_pixels: int, look: Look | None) -> str | None:
    for path in (row.output, *(other.path for other in row.others), row.input):
        if path is None:
            continue
        if url := thumbnail(Path(path), max_pixels=max_pixels, look=look):
            return url
    return None
