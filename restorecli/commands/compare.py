"""``restore compare``: look at the same picture in several versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restorecli.commands.options import MaxPixels
from restorecli.limits import DEFAULT_MAX_PIXELS


def compare(
    versions: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B [C]...", help="Two or more pictures, or folders paired by name."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="A .html page with sliders, or a .png sheet."
        ),
    ] = Path("compare.html"),
    pattern: Annotated[
        str | None,
        typer.Option("--pair", metavar="PATTERN", help="Stem in B, C …: '{stem}_clean'."),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out and list what has no partner.")
    ] = False,
    cell_px: Annotated[
        int,
        typer.Option("--width", min=32, metavar="PX", help="Widest picture on a .png sheet."),
    ] = 640,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.")] = False,
) -> None:
    """Put versions of a picture side by side: a page with sliders, or one sheet."""
    from restorecli.report import check_destination, write
    from restorecli.scoring import compare as comparing

    check_destination(output, overwrite=overwrite, formats=comparing.FORMATS)
    report = comparing.compose_comparison(versions, pattern=pattern, allow_missing=allow_missing)
    if output.suffix.lower() == ".html":
        write(report, output, max_pixels=max_pixels)
    else:
        comparing.write_sheet(report, output, cell_px=cell_px, max_pixels=max_pixels)
    raise typer.Exit(report.exit_code)
