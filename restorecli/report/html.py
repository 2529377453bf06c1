"""The report as one HTML page."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from restorecli.report.data import Report

Reader = Callable[[Path], NDArray[Any]]


def html(report: Report, *, folder: Path, read: Reader | None) -> str:
    """The page's text."""
    return f"<!doctype html>\n<title>{escape(report.title)}</title>\n"
