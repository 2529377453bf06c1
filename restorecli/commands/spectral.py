"""``restore spectral``: spectra of pictures, or of what a snapshot camera measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from restorecli.commands import completion
from restorecli.commands.asking import asks
from restorecli.commands.help import FILES, MACHINE, SCORES, TOLD, WHAT, guided
from restorecli.commands.options import (
    Device,
    DryRun,
    Log,
    Model,
    Overwrite,
    Quiet,
    Recursive,
    Resume,
    SkipExisting,
    Threads,
    Verbose,
    Weights,
)
from restorecli.commands.pages import Open, show_pages, tell_written, write_reports
from restorecli.commands.parsing import parse_memory
from restorecli.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    from restorecli.spectral.model import SpectralEngine
    from restorecli.spectral.run import Results, SpectralJob

Inputs = Annotated[
    list[Path],
    typer.Argument(metavar="INPUT...", help="Give pictures or folders; with --mask, measurements."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE|DIR",
        rich_help_panel=WHAT,
        help="Write there: a cube (.img, .tif, .mat, .npz) or a folder.",
    ),
]
CubeFormat = Annotated[
    Literal["img", "tif", "mat", "npz"],
    typer.Option(
        "--format",
        metavar="img|tif|mat|npz",
        rich_help_panel=FILES,
        help="Write cubes in folders as ENVI (img), TIFF, MATLAB 7.3 (mat) or NumPy (npz).",
    ),
]
Tiff = Annotated[
    Literal["planes", "pages"],
    typer.Option(
        "--tiff",
        metavar="planes|pages",
        rich_help_panel=FILES,
        help="Write TIFF as one page with named bands, or as one page for each band.",
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        metavar="FILE",
        rich_help_panel=WHAT,
        help="Read the mask of the snapshot camera (CASSI) that measured.",
    ),
]
Encoding = Annotated[
    Literal["srgb", "linear"] | None,
    typer.Option(
        "--encoding",
        metavar="srgb|linear",
        rich_help_panel=WHAT,
        help="Take the pictures for sRGB or linear. Default: what the model was made for.",
    ),
]
Raw = Annotated[
    bool,
    typer.Option("--raw", rich_help_panel=FILES, help="Do not clamp the bands to [0, 1]."),
]
PreviewFile = Annotated[
    bool,
    typer.Option(
        "--preview",
        rich_help_panel=FILES,
        help="Write a picture of each cube, too: sRGB under D65.",
    ),
]
Page = Annotated[
    Path | None,
    typer.Option(
        "--page",
        metavar="FILE",
        rich_help_panel=FILES,
        help="Write a page (.html) with spectra of clicked pixels.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        rich_help_panel=MACHINE,
        help="Use no more memory. Default: 2GB. With more it is faster.",
    ),
]
Ref = Annotated[
    Path | None,
    typer.Option(
        "--ref",
        metavar="DIR",
        rich_help_panel=SCORES,
        help="Score against the true cubes there (or a file, for one).",
    ),
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="NAME",
        autocompletion=completion.one_of("cave", "ntire2022", "kaist"),
        rich_help_panel=SCORES,
        help="Score by cave, ntire2022 or kaist.",
    ),
]
AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing", rich_help_panel=SCORES, help="Leave unscored what has no true cube."
    ),
]
Reports = Annotated[
    list[Path] | None,
    typer.Option(
        "--report",
        metavar="FILE",
        rich_help_panel=TOLD,
        help="Write a report: .json, .jsonl, .csv, .md or .html. Repeatable.",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        rich_help_panel=TOLD,
        help="Print a line of JSON for each cube, on standard output.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedSpectra:
    """The options of ``restore spectral``."""

    inputs: Inputs
    output: Output = None
    cube_format: CubeFormat = "img"
    tiff: Tiff = "planes"
    mask: Mask = None
    encoding: Encoding = None
    raw: Raw = False
    preview: PreviewFile = False
    page: Page = None
    open_page: Open = False
    model: Model = None
    weights: Weights = None
    recursive: Recursive = False
    overwrite: Overwrite = False
    skip_existing: SkipExisting = False
    resume: Resume = False
    dry_run: DryRun = False
    device: Device = "auto"
    max_memory: MaxMemory = None
    threads: Threads = None
    ref: Ref = None
    protocol: ProtocolName = None
    allow_missing: AllowMissing = False
    reports: Reports = None
    as_json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False
    log: Log = None


@guided(
    ("restore spectral photo.png --preview", "Writes photo.img (ENVI) and a picture of it."),
    (
        "restore spectral photo.png -o cube.npz --page spectra.html",
        "Writes a cube for NumPy, and a page where a click on a pixel shows its spectrum.",
    ),
    (
        "restore spectral meas.mat --mask mask.mat --ref true.mat",
        "Rebuilds what a snapshot camera measured, and scores it.",
    ),
    codes=(0, 1, 2, 3, 4, 5, 130),
)
@asks(AskedSpectra)
def spectral(**options: Any) -> None:
    """Make spectra: 31 bands of every pixel of a picture, or 28 of a snapshot measurement.

    Three numbers do not determine a spectrum: what comes out is a likely one.
    """
    asked = AskedSpectra(**options)
    max_bytes = parse_memory(asked.max_memory)

    from restorecli import console

    refuse_destinations(asked)
    job = job_of(asked, max_bytes)

    from restorecli.spectral.comparing import rendering
    from restorecli.spectral.run import run  # imports torch

    if asked.dry_run:
        for item in job.items:
            verb = "keep" if item.finished else "write"
            console.show_note(f"would {verb} {item.target} from {item.source}")
        raise typer.Exit(EXIT_OK)
    with console.RunDisplay(as_json=asked.as_json, quiet=asked.quiet) as display:
        report = run(job, display)
    console.show_summary(report, as_json=asked.as_json, quiet=asked.quiet)
    write_reports(
        report,
        asked.reports or [],
        quiet=asked.quiet,
        open_page=asked.open_page,
        look=rendering,
    )
    if asked.page and asked.page.exists():
        tell_written(asked.page, quiet=asked.quiet)
        if asked.open_page:
            show_pages([asked.page])
    raise typer.Exit(report.exit_code)


def refuse_destinations(asked: AskedSpectra) -> None:
    """Raise a ``RestoreError`` for cubes, reports or a page that cannot be written."""
    from restorecli.report import check_destination
    from restorecli.spectral.writing import kind_of

    named = asked.output is not None and asked.output.suffix
    kind_of(asked.output if asked.output and named else Path(f"cube.{asked.cube_format}"))
    for path in asked.reports or []:
        check_destination(path, overwrite=asked.overwrite)
    pages = [path for path in asked.reports or [] if path.suffix.lower() == ".html"]
    if asked.open_page and asked.page is None and not pages:
        raise UsageError("--open has no page to open.", hint="Add --page FILE.html.")
    if asked.page is not None:
        check_destination(asked.page, overwrite=asked.overwrite, formats=(".html",))


def job_of(asked: AskedSpectra, max_bytes: int | None) -> SpectralJob:
    """All that was asked for, checked and complete; raises a ``RestoreError``."""
    from restorecli.runs.manifest import Ledger
    from restorecli.scoring.metrics.spectra import find_spectral_protocol
    from restorecli.spectral import run as runs  # imports torch
    from restorecli.spectral.model import check_mask
    from restorecli.spectral.reading import read_plane

    cassi = asked.mask is not None
    if cassi and asked.encoding:
        raise UsageError("--encoding is of pictures; a measurement (--mask) has none.")
    scoring = find_spectral_protocol(asked.protocol or ("kaist" if cassi else "cave"))
    results = results_of(asked)
    items = runs.find(asked.inputs, asked.output, results, cassi=cassi, recursive=asked.recursive)
    plane = None
    if asked.mask is not None:
        plane = read_plane(asked.mask, ("mask",), "mask")
        check_mask(str(asked.mask), plane)
    engine = engine_of(asked, max_bytes)
    ledger = Ledger(fingerprint=runs.fingerprint(engine, results, plane))
    items = runs.decided(
        items,
        results,
        skip_existing=asked.skip_existing,
        ledger=ledger if asked.resume else None,
    )
    references = None
    if asked.ref:
        references = runs.References(
            path=asked.ref, protocol=scoring, allow_missing=asked.allow_missing
        )
    return runs.SpectralJob(
        engine=engine,
        items=items,
        results=results,
        mask=plane,
        references=references,
        options={"mask": str(asked.mask)} if cassi else {"encoding": engine.encoding},
        ledger=ledger if asked.resume or len(items) > 1 else None,
    )


def results_of(asked: AskedSpectra) -> Results:
    """What is wanted of the cubes."""
    from restorecli.spectral.run import Results

    return Results(
        suffix=f".{asked.cube_format}",
        pages=asked.tiff == "pages",
        raw=asked.raw,
        preview=asked.preview,
        page=asked.page,
        overwrite=asked.overwrite,
    )


def engine_of(asked: AskedSpectra, max_bytes: int | None) -> SpectralEngine:
    """The network that makes them, on a device."""
    from restorecli.spectral.model import prepare

    return prepare(
        cassi=asked.mask is not None,
        model_id=asked.model,
        weights=asked.weights,
        device=asked.device,
        encoding=asked.encoding,
        max_bytes=max_bytes,
        threads=asked.threads,
    )
