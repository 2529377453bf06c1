"""``restore metrics``: score restored pictures against clean ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restorecli.commands import completion
from restorecli.commands.asking import asks
from restorecli.commands.help import MACHINE, SCORES, TOLD, WHAT, guided
from restorecli.commands.options import MaxPixels
from restorecli.commands.pages import Open, check_reports, write_reports
from restorecli.limits import DEFAULT_MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from restorecli.images.finding import Found
    from restorecli.report import Report, Row
    from restorecli.scoring.metrics import Protocol
    from restorecli.scoring.metrics.spectra import SpectralProtocol
    from restorecli.scoring.score import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call of the command, as it was typed: each option, once."""

    targets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="TARGET...", help="Give restored pictures or cubes, or folders."),
    ] = None
    ref: Annotated[
        Path | None,
        typer.Option(
            "--ref", metavar="DIR", rich_help_panel=WHAT, help="Take the clean pictures there."
        ),
    ] = None
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pair",
            metavar="PATTERN",
            rich_help_panel=WHAT,
            help="Find the clean picture by its stem: '{stem}_clean', or '{stem}_{any}={stem}'.",
        ),
    ] = None
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            rich_help_panel=WHAT,
            help="Leave out and list what has no partner.",
        ),
    ] = False
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS
    protocol: Annotated[
        str,
        typer.Option(
            help="Score by this protocol; --list-protocols shows them.",
            autocompletion=completion.protocols,
            metavar="NAME",
            rich_help_panel=SCORES,
        ),
    ] = "rgb"
    extras: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="SCORE",
            autocompletion=completion.scores,
            rich_help_panel=SCORES,
            help="Add a score: delta_e2000, lpips, niqe or maniqa. Repeatable.",
        ),
    ] = None
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            rich_help_panel=SCORES,
            help="Compare with another method's results: paired difference with a bootstrap "
            "interval.",
        ),
    ] = None
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCORE=LIMIT",
            rich_help_panel=SCORES,
            help="Exit with 6 when a mean is worse, such as psnr_y=30. Repeatable.",
        ),
    ] = None
    list_protocols: Annotated[
        bool,
        typer.Option(
            "--list-protocols",
            help="Print the protocols with their sources, and end.",
        ),
    ] = False
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=MACHINE,
            help="Score with N processes. Default: one for each core.",
        ),
    ] = None
    reports: Annotated[
        list[Path] | None,
        typer.Option(
            "--report",
            metavar="FILE",
            rich_help_panel=TOLD,
            help="Write a report: .json, .jsonl, .csv, .md or .html. Repeatable.",
        ),
    ] = None
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", rich_help_panel=WHAT, help="Replace reports that exist."),
    ] = False
    open_page: Open = False
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            rich_help_panel=TOLD,
            help="Print a line of JSON for each picture and a last one, on standard output.",
        ),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How one kind of files is found, scored and looked at."""

    protocol: Protocol | SpectralProtocol
    find: Callable[[Sequence[Path]], Found]
    score: Callable[[Sequence[Task]], Iterator[Row]]
    look: Callable[[Path], NDArray[np.uint8] | None] | None = None  # at what is no picture


@guided(
    ("restore metrics out --ref target", "Prints PSNR and SSIM of every pair, and their means."),
    (
        "restore metrics out --ref target --protocol rain --against other/",
        "Scores as papers on rain do, and says by how much it differs from another method.",
    ),
    (
        "restore metrics cubes --ref truth --protocol cave --fail-under rmse=0.02",
        "Scores cubes of spectra, and ends with 6 where the mean error is above 0.02.",
    ),
    codes=(0, 1, 2, 3, 6, 130),
)
@asks(Asked)
def metrics(**options: Any) -> None:
    """Score restored pictures, or cubes of spectra, under a named protocol.

    They are paired by relative path, then by name without ending.
    """
    asked = Asked(**options)

    from restorecli.console import scores as show
    from restorecli.errors import EXIT_INTERRUPTED
    from restorecli.report import json_lines
    from restorecli.scoring.gates import check_gates, parse_gates
    from restorecli.scoring.metrics import PROTOCOLS
    from restorecli.scoring.metrics.spectra import SPECTRAL_PROTOCOLS

    if asked.list_protocols:
        known = PROTOCOLS.values(), SPECTRAL_PROTOCOLS.values()
        show.protocols(*known, as_json=asked.as_json)
        return
    way = way_of(asked)
    _check(asked)
    gates = parse_gates(asked.fail_under or [], way.protocol, asked.extras or [])
    report = scored(asked, way)
    if asked.as_json:
        show.lines(json_lines(report))
    else:
        show.scores(report)
    write_reports(
        report,
        asked.reports or [],
        max_pixels=asked.max_pixels,
        open_page=asked.open_page,
        look=way.look,
    )
    if report.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    check_gates(report, gates)
    raise typer.Exit(report.exit_code)


def _check(asked: Asked) -> None:
    """Refuse what is missing or would be overwritten, before anything is scored."""
    from restorecli.errors import UsageError

    if not asked.targets or asked.ref is None:
        raise UsageError("restore metrics needs restored pictures and --ref DIR.")
    check_reports(asked.reports or [], overwrite=asked.overwrite, open_page=asked.open_page)


def way_of(asked: Asked) -> Way:
    """How pictures are scored, or cubes where the protocol is one of theirs."""
    from functools import partial

    from restorecli.errors import UsageError
    from restorecli.images.finding import find_pictures
    from restorecli.scoring.metrics import find_protocol
    from restorecli.scoring.metrics.spectra import SPECTRAL_PROTOCOLS
    from restorecli.scoring.score import score_all

    extras, label = asked.extras or [], _label(asked) or ""
    of_cubes = SPECTRAL_PROTOCOLS.get(asked.protocol.lower())
    if of_cubes is None:
        protocol = find_protocol(asked.protocol)
        score = partial(
            score_all,
            protocol=protocol,
            extras=extras,
            other_label=label,
            jobs=asked.jobs,
            max_pixels=asked.max_pixels,
        )
        return Way(protocol=protocol, find=find_pictures, score=score)
    if extras:
        raise UsageError(f"--with {extras[0]} is of pictures; {of_cubes.name} scores cubes.")

    from restorecli.scoring.score import rows_of
    from restorecli.spectral.comparing import cube_row, find_cubes, rendering

    row = partial(cube_row, protocol=of_cubes, other_label=label)
    score = partial(rows_of, row=row, jobs=asked.jobs)
    return Way(protocol=of_cubes, find=find_cubes, score=score, look=rendering)


def _label(asked: Asked) -> str | None:
    return (asked.against.name or str(asked.against)) if asked.against else None


def scored(asked: Asked, way: Way) -> Report:
    """Pair and score everything; Ctrl-C ends it with what is done."""
    from restorecli.console import scores as show
    from restorecli.scoring.report import compose_report
    from restorecli.scoring.score import plan

    assert asked.targets is not None
    assert asked.ref is not None
    planned = plan(
        asked.targets,
        asked.ref,
        against=asked.against,
        pattern=asked.pattern,
        allow_missing=asked.allow_missing,
        find=way.find,
    )
    outcome = show.collect(way.score(planned.tasks), total=len(planned.tasks))
    return compose_report(
        outcome.rows,
        way.protocol,
        title=f"Scores of {asked.targets[0].resolve().name}",
        notes=planned.notes,
        extras=asked.extras or [],
        other_label=_label(asked),
        elapsed_s=outcome.elapsed_s,
        interrupted=outcome.interrupted,
    )
