"""``restore spectral``: spectra of pictures, or of what a snapshot camera measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from restorecli.commands.asking import asks
from restorecli.commands.parsing import parse_memory
from restorecli.errors import EXIT_OK

if TYPE_CHECKING:
    from restorecli.spectral.model import SpectralEngine
    from restorecli.spectral.run import Results, SpectralJob

Inputs = Annotated[
    list[Path], typer.Argument(help="Pictures or folders; with --mask, measurements.")
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Cube (.img, .tif, .mat, .npz) or folder."),
]
CubeFormat = Annotated[
    Literal["img", "tif", "mat", "npz"],
    typer.Option("--format", help="Of cubes in folders. img: ENVI. mat: MATLAB 7.3."),
]
Tiff = Annotated[
    Literal["planes", "pages"],
    typer.Option("--tiff", help="planes: one page with named bands. pages: one for each band."),
]
Mask = Annotated[
    Path | None,
    typer.Option("--mask", metavar="FILE", help="Of the snapshot camera (CASSI) that measured."),
]
Encoding = Annotated[
    Literal["srgb", "linear"] | None,
    typer.Option("--encoding", help="Of the pictures. Default: what the model was made for."),
]
Raw = Annotated[bool, typer.Option("--raw", help="Do not clamp the bands to [0, 1].")]
PreviewFile = Annotated[
    bool, typer.Option("--preview", help="Also a picture of each cube: sRGB under D65.")
]
Page = Annotated[
    Path | None,
    typer.Option("--page", metavar="FILE", help="A page (.html) with spectra of clicked pixels."),
]
Model = Annotated[str | None, typer.Option("--model", help="Id from `restore models list`.")]
Weights = Annotated[Path | None, typer.Option("--weights", help="Checkpoint of your own.")]
Recursive = Annotated[bool, typer.Option("-r", "--recursive", help="Also folders in folders.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Keep results that exist.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on: keep what is finished.")]
DryRun = Annotated[bool, typer.Option("-n", "--dry-run", help="Say what would happen.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
MaxMemory = Annotated[
    str | None,
    typer.Option("--max-memory", metavar="SIZE", help="Default: 2GB. With more it is faster."),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="That compute.")]
Ref = Annotated[
    Path | None, typer.Option("--ref", metavar="PATH", help="True cubes: score the results.")
]
ProtocolName = Annotated[
    str | None, typer.Option("--protocol", metavar="NAME", help="cave, ntire2022 or kaist.")
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Leave unscored what has no true cube.")
]
Reports = Annotated[
    list[Path] | None,
    typer.Option("--report", metavar="FILE", help="Write .json, .jsonl, .csv or .md."),
]
Json = Annotated[bool, typer.Option("--json", help="One line of JSON for each cube, on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")]
REPORT_FORMATS = (".json", ".jsonl", ".csv", ".md")


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


@asks(AskedSpectra)
def spectral(**options: Any) -> None:
    """Make spectra: 31 bands of every pixel of a picture, or 28 of a snapshot measurement.

    Three numbers do not determine a spectrum: what comes out is a likely one.
    """
    asked = AskedSpectra(**options)
    max_bytes = parse_memory(asked.max_memory)

    from restorecli import console
    from restorecli.report import write

    refuse_destinations(asked)
    job = job_of(asked, max_bytes)

    from restorecli.spectral.run import run  # imports torch

    if asked.dry_run:
        for item in job.items:
            verb = "keep" if item.finished else "write"
            console.show_note(f"would {verb} {item.target} from {item.source}")
        raise typer.Exit(EXIT_OK)
    with console.RunDisplay(as_json=asked.as_json, quiet=asked.quiet) as display:
        report = run(job, display)
    console.show_summary(report, as_json=asked.as_json, quiet=asked.quiet)
    for path in asked.reports or []:
        write(report, path)
    raise typer.Exit(report.exit_code)


def refuse_destinations(asked: AskedSpectra) -> None:
    """Raise a ``RestoreError`` for cubes, reports or a page that cannot be written."""
    from restorecli.report import check_destination
    from restorecli.spectral.writing import kind_of

    named = asked.output is not None and asked.output.suffix
    kind_of(asked.output if asked.output and named else Path(f"cube.{asked.cube_format}"))
    for path in asked.reports or []:
        check_destination(path, overwrite=asked.overwrite, formats=REPORT_FORMATS)
    if asked.page is not None:
        check_destination(asked.page, overwrite=asked.overwrite, formats=(".html",))


def job_of(asked: AskedSpectra, max_bytes: int | None) -> SpectralJob:
    """All that was asked for, checked and complete; raises a ``RestoreError``."""
    from restorecli.runs.manifest import Ledger
    from restorecli.scoring.metrics.spectra import find_spectral_protocol
    from restorecli.spectral import run as runs  # imports torch
    from restorecli.spectral.reading import read_plane

    cassi = asked.mask is not None
    scoring = find_spectral_protocol(asked.protocol or ("kaist" if cassi else "cave"))
    results = results_of(asked)
    items = runs.find(asked.inputs, asked.output, results, cassi=cassi, recursive=asked.recursive)
    plane = None if asked.mask is None else read_plane(asked.mask, ("mask",), "mask")
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
        options={"encoding": engine.encoding, "mask": str(asked.mask or "")},
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
