"""``restore degrade``: spoil clean pictures, to measure what undoes it."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from restorecli.limits import DEFAULT_MAX_PIXELS

Kind = Literal["rain", "snow", "haze", "noise", "dark", "motion", "defocus"]


KindName = Annotated[Kind, typer.Argument(help="What is done to the pictures.")]
Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT...", help="Pictures, folders, patterns, or @list of names."),
]
Output = Annotated[
    str, typer.Option("--output", "-o", metavar="OUT", help="Folder, or file for one picture.")
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="The same gives the same pixels.")
]
Severity = Annotated[
    float, typer.Option("--severity", min=0.05, max=4, help="0.5 is half as strong, 2 twice.")
]
Pairs = Annotated[bool, typer.Option("--pairs", help="Write OUT/input/ and, clean, OUT/target/.")]
Recursive = Annotated[
    bool, typer.Option("-r", "--recursive", help="Also pictures in folders of folders.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")]
MaxPixels = Annotated[
    int, typer.Option("--max-pixels", min=1, help="Refuse files that promise more.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="One line of JSON for each picture, on stdout.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")]


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
