"""``restore metrics``: score restored pictures against clean ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PANEL_GATES = "Comparing and judging"
PANEL_OUTPUT = "Output"


def metrics(
    targets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="TARGET...", help="Restored pictures, or folders of them."),
    ] = None,
    ref: Annotated[
        Path | None, typer.Option("--ref", metavar="DIR", help="The clean pictures.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="How to score; see --list-protocols.", metavar="NAME")
    ] = "rgb",
    extras: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="SCORE", help="Also: delta_e2000, lpips, niqe, maniqa. Repeatable."
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pair",
            metavar="PATTERN",
            help="Stem of the clean picture: '{stem}_clean', or '{stem}_{any}={stem}'.",
        ),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out and list what has no partner.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Another method's results: paired difference with a bootstrap interval.",
            rich_help_panel=PANEL_GATES,
        ),
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCORE=LIMIT",
            help="Exit with 6 when a mean is worse, e.g. psnr_y=30. Repeatable.",
            rich_help_panel=PANEL_GATES,
        ),
    ] = None,
    reports: Annotated[
        list[Path] | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Write .json, .jsonl, .csv, .md or .html. Repeatable.",
            rich_help_panel=PANEL_OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace reports.", rich_help_panel=PANEL_OUTPUT),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="One JSON line per picture, a summary last.",
            rich_help_panel=PANEL_OUTPUT,
        ),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Processes; one per core without it.", metavar="N"),
    ] = None,
    list_protocols: Annotated[
        bool, typer.Option("--list-protocols", help="Show the protocols with their sources.")
    ] = False,
) -> None:
    """Score restored pictures: PSNR and SSIM under a named protocol.

    Pictures are paired by relative path, then by name without ending.
    """
    from restorecli.console import scores as show
    from restorecli.errors import EXIT_INTERRUPTED, UsageError
    from restorecli.report import check_destination, json_lines, write
    from restorecli.scoring import score as scoring
    from restorecli.scoring.metrics import PROTOCOLS, find_protocol

    if list_protocols:
        show.protocols(PROTOCOLS.values(), as_json=as_json)
        return
    if not targets or ref is None:
        raise UsageError("restore metrics needs restored pictures and --ref DIR.")
    chosen, extra = find_protocol(protocol), extras or []
    for path in reports or []:
        check_destination(path, overwrite=overwrite)
    gates = scoring.parse_gates(fail_under or [], chosen, extra)
    plan = scoring.plan(targets, ref, against=against, pattern=pattern, allow_missing=allow_missing)
    label = against.name or str(against) if against else None
    scored = scoring.score_all(plan.tasks, chosen, extras=extra, other_label=label or "", jobs=jobs)
    outcome = show.collect(scored, total=len(plan.tasks))
    report = scoring.compose_report(
        outcome.rows,
        chosen,
        title=f"Scores of {targets[0].resolve().name}",
        notes=plan.notes,
        extras=extra,
        other_label=label,
        elapsed_s=outcome.elapsed_s,
        interrupted=outcome.interrupted,
    )
    for path in reports or []:
        write(report, path, read=scoring.read_pixels)
    if as_json:
        show.lines(json_lines(report))
    else:
        show.scores(report)
    if outcome.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    scoring.check_gates(report, gates)
    raise typer.Exit(report.exit_code)
