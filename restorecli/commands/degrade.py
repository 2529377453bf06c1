"""``restore degrade``: spoil clean pictures, to measure what undoes it."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from restorecli.commands.help import QUALITY, TOLD, WHAT, guided
from restorecli.commands.options import MaxPixels, Overwrite, Quiet, Recursive
from restorecli.limits import DEFAULT_MAX_PIXELS

Kind = Literal["rain", "snow", "haze", "noise", "dark", "motion", "defocus"]


KindName = Annotated[
    Kind,
    typer.Argument(
        metavar="KIND", help="Say what is done: rain, snow, haze, noise, dark, motion or defocus."
    ),
]
Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...", help="Give pictures, folders, patterns, or @FILE with a list of names."
    ),
]
Output = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|DIR",
        rich_help_panel=WHAT,
        help="Write there: a folder, or a file for one picture. Required.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        max=2**32 - 1,
        metavar="N",
        rich_help_panel=QUALITY,
        help="Draw chance from N: the same gives the same pixels.",
    ),
]
Severity = Annotated[
    float,
    typer.Option(
        "--severity",
        min=0.05,
        max=4,
        metavar="X",
        rich_help_panel=QUALITY,
        help="Spoil half as strongly (0.5), or twice (2).",
    ),
]
Pairs = Annotated[
    bool,
    typer.Option("--pairs", rich_help_panel=WHAT, help="Write DIR/input/ and, clean, DIR/target/."),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        rich_help_panel=TOLD,
        help="Print a line of JSON for each picture, on standard output.",
    ),
]


@guided(
    ("restore degrade rain photo.png -o rainy.png", "Draws rain over one picture."),
    (
        "restore degrade noise photos/ -o noisy/ --pairs --seed 1",
        "Makes pairs to measure with: noisy/input/ and noisy/target/.",
    ),
    (
        "restore degrade haze photos/ -r -o hazy/ --severity 0.5",
        "Draws thin haze over a tree of folders.",
    ),
    codes=(0, 1, 2, 3, 130),
)
def degrade(
    kind: KindName,
    inputs: Inputs,
    output: Output,
    seed: Seed = 0,
    severity: Severity = 1.0,
    pairs: Pairs = False,
    recursive: Recursive = False,
    overwrite: Overwrite = False,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Spoil clean pictures on purpose: reproducible pairs to measure a restoration with."""
    from restorecli import console
    from restorecli.runs import degrade as degrading

    work = degrading.plan(
        inputs, output, kind, pairs=pairs, recursive=recursive, overwrite=overwrite
    )
    order = degrading.Order(kind=kind, seed=seed, severity=severity)
    errors = []
    for one, error in degrading.carry_out(work, order, max_pixels=max_pixels):
        errors.append(error)
        console.show_degraded(
            str(one.source),
            [str(path) for path in (one.degraded, one.clean) if path],
            error,
            as_json=as_json,
            quiet=quiet,
        )
    raise typer.Exit(degrading.exit_code(errors))
