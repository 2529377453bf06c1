"""How the scores are spread, drawn by matplotlib as SVG that takes its colours from the page."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from restorecli.report.words import kind_label, printable, score_label

# Colours that matplotlib writes and the page replaces by its own, light or dark.
INK, BEFORE, AFTER = "#010203", "#040506", "#070809"
PAGE_COLOURS = {INK: "var(--ink-soft)", BEFORE: "var(--before)", AFTER: "var(--after)"}
MOST_DOTS = 120  # pictures; above that an outline of their density, which a browser draws faster
LONGEST_LABEL = 22


def distribution(
    score: str, values: Mapping[str, Sequence[float]], *, protocol: str | None
) -> str | None:
    """One score of all pictures as an ``<svg>``: a dot per picture and a box per kind.

    Args:
        score: name of the score.
        values: scores by kind of picture (``Input``, ``Restored`` …).
        protocol: named on the axis.

    Returns:
        None when matplotlib is not installed, or when no value is finite.
    """
    finite = {kind: [v for v in row if math.isfinite(v)] for kind, row in values.items()}
    finite = {kind: row for kind, row in finite.items() if row}
    if not finite:
        return None
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        return None
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": score,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "font.size": 9,
        "text.parse_math": False,  # a "$" in a name is a dollar
    }
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(5.4, 0.95 + 0.55 * len(finite)), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for position, (kind, row) in enumerate(reversed(finite.items())):
            _draw_kind(axes, position, row, AFTER if kind == kind_label("after") else BEFORE)
        labels = [_short(kind) for kind in reversed(finite)]
        axes.set_yticks(range(len(finite)), labels=labels)
        axes.set_ylim(-0.6, len(finite) - 0.4)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=INK, alpha=0.18, linewidth=0.6)
        axes.set_axisbelow(True)
        named = f" (protocol {protocol})" if protocol else ""
        axes.set_xlabel(score_label(score) + named)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(stream.getvalue(), f"Distribution of {score_label(score)}")


def _draw_kind(axes: Any, position: int, row: Sequence[float], colour: str) -> None:
    few = len(row) <= MOST_DOTS
    axes.boxplot(
        row,
        positions=[position],
        orientation="horizontal",
        widths=0.5 if few else 0.16,
        showfliers=False,
        boxprops={"color": colour, "linewidth": 1},
        whiskerprops={"color": colour, "linewidth": 1},
        capprops={"color": colour, "linewidth": 1},
        medianprops={"color": colour, "linewidth": 2.4},
    )
    if few:
        spread = [position + 0.44 * ((i * 0.6180339887) % 1 - 0.5) for i in range(len(row))]
        axes.scatter(row, spread, s=16, color=colour, alpha=0.55, linewidths=0, zorder=3)
    elif min(row) < max(row):
        density = axes.violinplot(
            row, positions=[position], orientation="horizontal", widths=0.8, showextrema=False
        )
        for body in density["bodies"]:
            body.set(facecolor=colour, edgecolor="none", alpha=0.35)


def _short(kind: str) -> str:
    text = printable(kind)
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"


def _for_page(svg: str, label: str) -> str:
    """Only the ``<svg>`` element: named, scalable, in the page's font and colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same in every figure; nothing refers to them
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 var(--font)", svg)
    for colour, variable in PAGE_COLOURS.items():
        svg = svg.replace(colour, variable)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
