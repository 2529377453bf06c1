"""The report as one HTML page that works from disk, without a network.

What people typed or named reaches the page as escaped text or as JSON, never as markup, and the
page's own policy lets no other script run and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from html import escape
from importlib import resources
from pathlib import Path

from restorecli.limits import DEFAULT_MAX_PIXELS
from restorecli.report.data import Report, Row, Summary, score_columns, scores_by_kind
from restorecli.report.pictures import Source, source, thumbnail, total_bytes
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

INLINE_BYTES = 16 * 2**20  # pictures of a page up to this size go into it, larger ones are linked


def html(
    report: Report,
    *,
    folder: Path,
    inline_bytes: int = INLINE_BYTES,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> str:
    """The whole page.

    Args:
        report: what to show.
        folder: where the page will lie; linked pictures are relative to it.
        inline_bytes: pictures of at most this many bytes together are put into the page.
        max_pixels: pictures that promise more are not decoded, and not shown.
    """
    shown = [row.pictures() for row in report.rows]
    inline = total_bytes(picture.path for row in shown for picture in row) <= inline_bytes
    find = partial(source, folder=folder, inline=inline, max_pixels=max_pixels)
    with ThreadPoolExecutor() as pool:
        thumbnails = list(pool.map(lambda row: _thumbnail(row, max_pixels), report.rows))
        sources = [list(pool.map(find, [Path(picture.path) for picture in row])) for row in shown]
    pictures = [
        {
            "name": printable(row.name),
            "thumbnail": thumb,
            "pictures": [
                {
                    "label": printable(picture.label),
                    "scores": ", ".join(score_text(*score) for score in picture.scores.items()),
                    "src": found.url,
                    "reduced": found.reduced,
                }
                for picture, found in zip(labelled, row_sources, strict=True)
            ],
        }
        for row, thumb, labelled, row_sources in zip(
            report.rows, thumbnails, shown, sources, strict=True
        )
    ]
    script = _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "title": escape(printable(report.title)),
        "policy": escape(
            "default-src 'none'; style-src 'unsafe-inline'; img-src data: file: 'self'; "
            f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        ),
        "style": _file("page.css"),
        "script": script,
        "data": _script_safe(pictures),
        "lead": _lead(report),
        "notes": _notes(report),
        "cards": _cards(report),
        "comparisons": _comparisons(report),
        "plots": _plots(report),
        "summary": _summary_table(report),
        "settings": _settings(report),
        "table": _table(report, [thumb is not None for thumb in thumbnails]),
        "where": _where(sources, inline=inline),
    }
    # One pass: a name that looks like a placeholder stays what it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _file("page.html"))


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
    return escape(printable(" · ".join([*words, when(report.created)])))


def _notes(report: Report) -> str:
    if not report.notes:
        return ""
    items = "".join(f"<li>{escape(printable(note))}</li>" for note in report.notes)
    return (
        f'<details class="notes"><summary>Notes ({len(report.notes)})</summary>'
        f"<ul>{items}</ul></details>"
    )


def _cards(report: Report) -> str:
    """One card per score: the mean, what it was before, and the gain."""
    by_score: dict[str, dict[str, Summary]] = {}
    for summary in report.summary:
        by_score.setdefault(summary.score, {})[summary.of] = summary
    cards = []
    for score, kinds in by_score.items():
        main = kinds.get("after") or next(iter(kinds.values()))
        before = kinds.get("before")
        lines = [f"median {number(main.median, score)}"]
        if main.infinite:
            lines.append(f"{main.infinite} identical, left out")
        gain = ""
        if before and before is not main and before.mean is not None and main.mean is not None:
            difference = main.mean - before.mean
            better = (difference < 0) == (score in report.lower_is_better)
            gain = (
                f'<p class="gain {"better" if better else "worse"}">'
                f"{number(difference, score, sign=True)} from {number(before.mean, score)}</p>"
            )
        cards.append(
            f'<div class="card"><p class="what">Mean {escape(score_label(score))}</p>'
            f'<p class="value">{number(main.mean, score) or "∞"}</p>{gain}'
            f'<p class="more">{escape("; ".join(lines))}</p></div>'
        )
    failed = report.counts["failed"]
    if failed:
        cards.append(
            f'<div class="card alarm"><p class="what">Failed</p><p class="value">{failed}</p>'
            '<p class="more">see the table</p></div>'
        )
    return "".join(cards)


def _comparisons(report: Report) -> str:
    if not report.comparisons:
        return ""
    rows = []
    for c in report.comparisons:
        interval = "" if c.low is None or c.high is None else (
            f"{number(c.low, c.score, sign=True)} … {number(c.high, c.score, sign=True)}"
        )  # fmt: skip
        cells = [
            number(c.mean_difference, c.score, sign=True),
            interval,
            c.higher,
            c.lower,
            c.count,
        ]
        rows.append(
            f'<tr><th scope="row">{escape(score_label(c.score))}</th>'
            f"<td>{escape(printable(c.label))}</td>"
            + "".join(f'<td class="n">{cell}</td>' for cell in cells)
            + "</tr>"
        )
    head = "".join(
        f'<th scope="col"{kind}>{text}</th>'
        for text, kind in (
            ("Score", ""), ("Against", ""), ("Mean difference", ' class="n"'),
            ("95 % interval", ' class="n"'), ("Higher on", ' class="n"'),
            ("Lower on", ' class="n"'), ("Pairs", ' class="n"'),
        )
    )  # fmt: skip
    return (
        '<section aria-labelledby="against"><h2 id="against">Paired comparison</h2>'
        '<p class="hint">This run minus the other method, picture by picture; the interval is a '
        "bootstrap over pictures.</p>"
        f'<div class="wide" role="group" tabindex="0" aria-labelledby="against">'
        f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        "</div></section>"
    )


def _plots(report: Report) -> str:
    """A figure per score, or a word on what is missing for it."""
    if not report.summary:
        return ""
    figures = []
    dots = "Each dot is a picture"
    if len(report.rows) > MOST_DOTS:
        dots = "The outline shows where pictures crowd"
    for score in dict.fromkeys(summary.score for summary in report.summary):
        values: dict[str, list[float]] = {}
        for row in report.rows:
            for kind, scores in scores_by_kind(row).items():
                if score in scores:
                    values.setdefault(kind_label(kind), []).append(scores[score])
        if svg := distribution(score, values, protocol=report.settings.protocol):
            figures.append(f"<figure>{svg}</figure>")
    if figures:
        body = f'<div class="plots">{"".join(figures)}</div>' + (
            f'<p class="hint">{dots}; '
            "the box spans the middle half with the median in it, whiskers reach to 1.5 times its "
            "width.</p>"
        )
    else:
        body = (
            '<p class="hint">Plots need matplotlib: <code>pip install '
            "'restorecli[plots]'</code>.</p>"
        )
    return f'<section aria-labelledby="spread"><h2 id="spread">Distribution</h2>{body}</section>'


def _summary_table(report: Report) -> str:
    if not report.summary:
        return ""
    names = {row.name: index for index, row in enumerate(report.rows)}
    rows = []
    for s in report.summary:
        numbers = [number(v, s.score) for v in (s.mean, s.median, s.minimum, s.maximum)]
        worst = " ".join(
            f'<button type="button" class="link" data-open="{names[name]}">'
            f"{escape(printable(name))}</button>"
            for name in s.worst
            if name in names
        )
        rows.append(
            f'<tr><th scope="row">{escape(score_label(s.score))}</th>'
            f"<td>{escape(kind_label(s.of))}</td>"
            + "".join(f'<td class="n">{cell}</td>' for cell in (*numbers, s.count, s.infinite))
            + f'<td class="worst">{worst}</td></tr>'
        )
    numeric = ("Mean", "Median", "Lowest", "Highest", "Pictures", "Identical")
    head = '<th scope="col">Score</th><th scope="col">Of</th>' + "".join(
        f'<th scope="col" class="n">{text}</th>' for text in numeric
    )
    return (
        '<section aria-labelledby="numbers"><h2 id="numbers">Summary</h2>'
        '<div class="wide" role="group" tabindex="0" aria-labelledby="numbers">'
        f'<table class="plain"><thead><tr>{head}<th scope="col">Worst, worst first</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _settings(report: Report) -> str:
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
    items = "".join(
        f"<div><dt>{escape(printable(key))}</dt><dd>{escape(printable(str(value)))}</dd></div>"
        for key, value in values.items()
        if value is not None
    )
    return f"<dl>{items}</dl>"


def _table(report: Report, thumbnails: Sequence[bool]) -> str:
    """All rows, with what each column is sorted by."""
    scores = score_columns(report.rows)
    gains = [s for s, of in scores if of == "after" and (s, "before") in scores]
    statuses = report.counts["ok"] < len(report.rows)
    head = [_head("Picture", "text"), *[_head("Status", "text")] * statuses]
    for score, of in scores:
        head.append(_head(score_label(score), "number", kind_label(of)))
        if of == "after" and score in gains:
            head.append(_head(score_label(score), "number", "Gain"))
    sizes = any(row.width_px for row in report.rows)
    times = any(row.elapsed_s is not None for row in report.rows)
    memory = any(row.peak_memory_bytes for row in report.rows)
    kinds = len({row.exact for row in report.rows if row.status == "ok"}) > 1
    head += [_head("Size", "number")] * sizes + [_head("Evaluation", "text")] * kinds
    head += [_head("Time", "number")] * times + [_head("Memory", "number")] * memory
    body = []
    for index, row in enumerate(report.rows):
        by_kind = scores_by_kind(row)
        cells = [_picture_cell(index, row, thumbnail=thumbnails[index])]
        if statuses:
            status = f'<span class="status {row.status}">{row.status}</span>'
            cells.append(f'<td data-sort="{row.status}">{status}</td>')
        for score, of in scores:
            value = by_kind.get(of, {}).get(score)
            cells.append(_cell(value, number(value, score)))
            if of == "after" and score in gains:
                before = row.scores_before.get(score)
                gain = None if value is None or before is None else value - before
                gain = None if gain is None or math.isnan(gain) else gain
                cells.append(_cell(gain, number(gain, score, sign=True)))
        if sizes:
            known = row.width_px and row.height_px
            pixels = row.width_px * row.height_px if row.width_px and row.height_px else None
            cells.append(_cell(pixels, f"{row.width_px}×{row.height_px}" if known else ""))
        if kinds:
            text = {True: "exact", False: f"tiles {row.tile_px or ''}".strip(), None: ""}[row.exact]
            cells.append(f'<td data-sort="{escape(text)}">{escape(text)}</td>')
        if times:
            text = "" if row.elapsed_s is None else duration_text(row.elapsed_s)
            cells.append(_cell(row.elapsed_s, text))
        if memory:
            used = row.peak_memory_bytes
            cells.append(_cell(used, "" if used is None else size_text(used)))
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<table id="rows" style="min-width: {10 + 5.5 * len(head)}rem">'
        f'<colgroup><col class="first"></colgroup><thead><tr>{"".join(head)}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _head(label: str, kind: str, of: str = "") -> str:
    small = f"<small>{escape(printable(of))}</small>" if of else ""
    numeric = ' class="n"' if kind == "number" else ""
    return (
        f'<th scope="col"{numeric}><button type="button" data-kind="{kind}">'
        f"{escape(label)}{small}</button></th>"
    )


def _cell(value: float | None, text: str) -> str:
    return f'<td class="n" data-sort="{"" if value is None else value}">{escape(text)}</td>'


def _picture_cell(index: int, row: Row, *, thumbnail: bool) -> str:
    name = escape(printable(row.name))
    small = '<span class="blank"></span>'
    if thumbnail:
        small = f'<img alt="" data-thumbnail="{index}" width="72" height="48">'
    if len(row.pictures()) > 1:
        body = (
            f'<button type="button" class="open" data-open="{index}">{small}'
            f"<span>{name}</span></button>"
        )
    else:
        body = f'<div class="open">{small}<span>{name}</span></div>'
    why = f'<span class="why">{escape(printable(row.error))}</span>' if row.error else ""
    return f'<td data-sort="{name}">{body}{why}</td>'


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


def _thumbnail(row: Row, max_pixels: int) -> str | None:
    for path in (row.output, *(other.path for other in row.others), row.input):
        if path is not None and (url := thumbnail(Path(path), max_pixels=max_pixels)):
            return url
    return None


def _script_safe(data: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _file(name: str) -> str:
    return resources.files("restorecli.report").joinpath("page", name).read_text("utf-8")
