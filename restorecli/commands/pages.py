"""Reports and pages: refused before the work, written after it, told with their size, opened."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restorecli.commands.help import TOLD
from restorecli.errors import UsageError
from restorecli.limits import DEFAULT_MAX_PIXELS

if TYPE_CHECKING:
    from restorecli.report import Report
    from restorecli.report.pictures import Look

Open = Annotated[
    bool,
    typer.Option("--open", rich_help_panel=TOLD, help="Open the page (.html) in the browser."),
]


def check_reports(
    paths: Sequence[Path],
    *,
    overwrite: bool,
    open_page: bool = False,
    formats: Collection[str] | None = None,
) -> None:
    """Refuse what cannot be written, and --open without a page; raises a ``RestoreError``."""
    from restorecli.report import FORMATS, check_destination

    for path in paths:
        check_destination(path, overwrite=overwrite, formats=formats or FORMATS)
    if open_page and not _pages(paths):
        raise UsageError("--open has no page to open.", hint="Add --report FILE.html.")


def write_reports(
    report: Report,
    paths: Sequence[Path],
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    quiet: bool = False,
    open_page: bool = False,
    look: Look | None = None,
) -> None:
    """Write ``report`` to each of ``paths``, say so, and open the page if that is wanted.

    ``look`` makes pictures for pages of files that are none.
    """
    from restorecli.report import write

    for path in paths:
        write(report, path, max_pixels=max_pixels, look=look)
        tell_written(path, quiet=quiet)
    if _pages(paths) and report.summary and not quiet:
        _tell_of_plots()
    if open_page:
        show_pages(paths)


def _tell_of_plots() -> None:
    """Say to whoever made the page, and in no document for others, what it could have, too."""
    if importlib.util.find_spec("matplotlib") is None:
        from restorecli import console
        from restorecli.machine.extras import install_hint

        console.show_note(f"The page has no plots: matplotlib is not here. {install_hint('plots')}")


def tell_written(path: Path, *, quiet: bool = False) -> None:
    """Say that a file was written, and how large it is."""
    from restorecli import console

    if not quiet:
        console.show_written(path)


def show_pages(paths: Sequence[Path]) -> None:
    """Open the pages among ``paths`` in the browser, or say where they are."""
    from restorecli import console
    from restorecli.machine.browser import open_in_browser

    for path in _pages(paths):
        if not open_in_browser(path):
            console.show_note(f"No browser could be started here: open {path} in one.")


def _pages(paths: Sequence[Path]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() == ".html"]
