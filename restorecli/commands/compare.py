"""``restore compare``: look at the same picture in several versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restorecli.commands.help import FILES, WHAT, guided
from restorecli.commands.options import MaxPixels
from restorecli.commands.pages import Open, check_reports, tell_written, write_reports
from restorecli.limits import DEFAULT_MAX_PIXELS


@guided(
    (
        "restore compare holiday/ holiday.derain/ -o page.html",
        "Writes a page with a slider for each pair of pictures.",
    ),
    (
        "restore compare noisy.png denoised.png clean.png -o sheet.png",
        "Writes one picture with the three beside each other.",
    ),
    (
        "restore compare in/ out/ --pair '{stem}_clean' --allow-missing",
        "Finds partners by a pattern, and lists what has none.",
    ),
    codes=(0, 1, 2, 3, 130),
)
def compare(
    versions: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B [C]...", help="Give two or more pictures, or folders paired by name."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            rich_help_panel=WHAT,
            help="Write there: a .html page with sliders, or a .png sheet.",
        ),
    ] = Path("compare.html"),
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pair",
            metavar="PATTERN",
            rich_help_panel=WHAT,
            help="Find partners in B and C by their stem, such as '{stem}_clean'.",
        ),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", rich_help_panel=WHAT, help="Leave out and list what has no partner."
        ),
    ] = False,
    cell_px: Annotated[
        int,
        typer.Option(
            "--width",
            min=32,
            metavar="N",
            rich_help_panel=FILES,
            help="Draw pictures on a .png sheet at most N pixels wide.",
        ),
    ] = 640,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    open_page: Open = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=WHAT, help="Replace FILE.")
    ] = False,
) -> None:
    """Put versions of a picture side by side: a page with sliders, or one sheet."""
    from restorecli.scoring import compare as comparing

    check_reports([output], overwrite=overwrite, open_page=open_page, formats=comparing.FORMATS)
    report = comparing.compose_comparison(versions, pattern=pattern, allow_missing=allow_missing)
    if output.suffix.lower() == ".html":
        write_reports(report, [output], max_pixels=max_pixels, open_page=open_page)
    else:
        comparing.write_sheet(report, output, cell_px=cell_px, max_pixels=max_pixels)
        tell_written(output)
    raise typer.Exit(report.exit_code)
