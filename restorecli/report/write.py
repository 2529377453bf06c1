"""Write a report in the format its file name asks for, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from restorecli.errors import OutputError, UsageError
from restorecli.files.addresses import is_remote
from restorecli.files.atomic import write_atomically
from restorecli.files.regular import is_directory
from restorecli.limits import DEFAULT_MAX_PIXELS
from restorecli.report.data import ROW, Report, Row, score_columns, scores_by_kind
from restorecli.report.html import html
from restorecli.report.pictures import Look
from restorecli.report.words import printable

FORMATS: dict[str, str] = {
    ".json": "everything, for programs; described by a JSON Schema",
    ".jsonl": "one JSON object per line, the summary last",
    ".csv": "one line per picture, for a spreadsheet",
    ".md": "tables for an issue or a paper's appendix",
    ".html": "one page to look at, with before/after sliders",
}
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def check_destination(
    path: Path, *, overwrite: bool = False, formats: Collection[str] = FORMATS
) -> None:
    """Find out before the work whether a file of one of ``formats`` can be written to ``path``.

    Raises:
        UsageError: the ending names no format.
        OutputError: the folder is missing, or the file exists and ``overwrite`` is false.
    """
    if path.suffix.lower() not in formats:
        raise UsageError(
            f"Cannot tell the format of {printable(str(path))}: its ending is {path.suffix!r}.",
            hint=f"Use one of {', '.join(formats)}.",
        )
    if not is_remote(path) and not is_directory(path.parent):
        raise OutputError(f"The folder {printable(str(path.parent))} does not exist.")
    if not is_remote(path) and not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"No file can be made in the folder {printable(str(path.parent))}.")
    if is_directory(path):
        raise OutputError(f"{printable(str(path))} is a folder, not a file.")
    if path.exists() and not overwrite:
        raise OutputError(
            f"{printable(str(path))} exists already.", hint="Add --overwrite to replace it."
        )


def write(
    report: Report,
    path: Path,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    look: Look | None = None,
) -> None:
    """Write ``report`` to ``path`` in the format of its ending; it replaces what is there.

    Args:
        report: what to write.
        path: ends with one of `FORMATS`.
        max_pixels: the HTML page shows no picture that promises more.
        look: the HTML page shows what this makes of files that are no pictures.

    Raises:
        OutputError: the file cannot be written.
    """
    writers: dict[str, Callable[[], str]] = {
        ".json": report.to_json,
        ".jsonl": lambda: "".join(line + "\n" for line in json_lines(report)),
        ".csv": lambda: to_csv(report),
        ".md": lambda: to_markdown(report),
        ".html": lambda: html(
            report, folder=path.absolute().parent, max_pixels=max_pixels, look=look
        ),
    }
    write_atomically(path, writers[path.suffix.lower()]().encode("utf-8"), overwrite=True)


def json_lines(report: Report) -> Iterator[str]:
    """One JSON object per picture (``type`` is ``image``), then one of type ``summary``.

    ASCII only, so that no reader takes a line separator inside a name for the end of a line.
    """
    yield from map(image_line, report.rows)
    yield summary_line(report)


def image_line(row: Row) -> str:
    """One picture as a line of JSON."""
    return json.dumps({"type": "image", **json.loads(ROW.dump_json(row))})


def summary_line(report: Report) -> str:
    """Everything but the pictures as a line of JSON."""
    rest = json.loads(report.model_dump_json(exclude={"rows"}))
    return json.dumps({"type": "summary", **rest})


def to_csv(report: Report) -> str:
    """One line per picture; the scores are the last columns, as ``psnr_y_before``.

    A spreadsheet takes a cell that starts with ``=``, ``+``, ``-`` or ``@`` for a formula; such
    paths are written with ``./`` in front, which names the same file.
    """
    plain = ["name", "input", "output", "reference", "status", "error", "height_px", "width_px",
             "exact", "tile_px", "strip_rows", "elapsed_s", "predicted_memory_bytes",
             "peak_memory_bytes"]  # fmt: skip
    columns = score_columns(report.rows)
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow([*plain, *(_inert(f"{score}_{of}") for score, of in columns)])
    for row in report.rows:
        scores = scores_by_kind(row)
        cells = [_inert(getattr(row, name)) for name in plain]
        cells += [scores.get(of, {}).get(score) for score, of in columns]
        table.writerow(["" if cell is None else cell for cell in cells])
    return stream.getvalue()


def to_markdown(report: Report) -> str:
    """Summary, settings and one table row per picture."""
    columns = score_columns(report.rows)
    counts = ", ".join(f"{number} {status}" for status, number in report.counts.items() if number)
    lines = [f"# {markdown_text(report.title)}", "", f"{len(report.rows)} pictures: {counts}.", ""]
    lines += [f"> {markdown_text(note)}\n" for note in report.notes]
    if report.summary:
        lines += _table(
            ["score", "of", "pictures", "identical", "mean", "median", "minimum", "maximum"],
            [
                [s.score, s.of, s.count, s.infinite, s.mean, s.median, s.minimum, s.maximum]
                for s in report.summary
            ],
        )
    if report.comparisons:
        lines += _table(
            ["score", "against", "pairs", "mean difference", "95 % interval", "higher", "lower"],
            [
                [c.score, c.label, c.count, c.mean_difference,
                 "" if c.low is None or c.high is None else f"{c.low:+.4f} … {c.high:+.4f}",
                 c.higher, c.lower]
                for c in report.comparisons
            ],
        )  # fmt: skip
    settings = report.settings.model_dump(exclude_none=True)
    settings |= settings.pop("versions") | settings.pop("options")
    lines += _table(["setting", "value"], [[key, str(value)] for key, value in settings.items()])
    rows = [
        [row.name, row.status if not row.error else f"{row.status}: {row.error}",
         *(scores_by_kind(row).get(of, {}).get(score) for score, of in columns)]
        for row in report.rows
    ]  # fmt: skip
    lines += _table(["picture", "status", *(f"{score} {of}" for score, of in columns)], rows)
    return "\n".join(lines)


def markdown_text(text: str) -> str:
    """``text`` such that Markdown shows it as it is: no tags, links, tables or emphasis."""
    shown = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{char}" if char in "\\`*_{}[]()#|~!@:" else char for char in shown)


def _table(head: list[str], rows: Sequence[Sequence[object]]) -> list[str]:
    if not rows:
        return []

    def line(cells: Sequence[object]) -> str:
        return f"| {' | '.join(_cell(cell) for cell in cells)} |"

    return [line(head), f"|{' --- |' * len(head)}", *(line(row) for row in rows), ""]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if math.isfinite(value) else "∞"
    return markdown_text(str(value))


def _inert(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"./{value}"
    return value
