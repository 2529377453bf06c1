"""``restore spectral``: spectra of pictures, or of what a snapshot camera measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from restorecli.commands.parsing import parse_memory
from restorecli.errors import EXIT_OK

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


def spectral(
    inputs: Inputs,
    output: Output = None,
    cube_format: CubeFormat = "img",
    tiff: Tiff = "planes",
    mask: Mask = None,
    encoding: Encoding = None,
    raw: Raw = False,
    preview: PreviewFile = False,
    page: Page = None,
    model: Model = None,
    weights: Weights = None,
    recursive: Recursive = False,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    resume: Resume = False,
    dry_run: DryRun = False,
    device: Device = "auto",
    max_memory: MaxMemory = None,
    threads: Threads = None,
    ref: Ref = None,
    protocol: ProtocolName = None,
    allow_missing: AllowMissing = False,
    reports: Reports = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make spectra: 31 bands of every pixel of a picture, or 28 of a snapshot measurement.

    Three numbers do not determine a spectrum: what comes out is a likely one.
    """
    max_bytes = parse_memory(max_memory)

    from restorecli import console
    from restorecli.report import check_destination, write
    from restorecli.scoring.metrics.spectra import find_spectral_protocol
    from restorecli.spectral.writing import kind_of

    scoring = find_spectral_protocol(protocol or ("kaist" if mask else "cave"))
    kind_of(output if output and output.suffix else Path(f"cube.{cube_format}"))
    for path in reports or []:
        check_destination(path, overwrite=overwrite, formats=REPORT_FORMATS)
    if page is not None:
        check_destination(page, overwrite=overwrite, formats=(".html",))

    from restorecli.runs.manifest import Ledger
    from restorecli.spectral import model as models  # these import torch
    from restorecli.spectral import run as runs
    from restorecli.spectral.reading import read_plane

    results = runs.Results(
        suffix=f".{cube_format}",
        pages=tiff == "pages",
        raw=raw,
        preview=preview,
        page=page,
        overwrite=overwrite,
    )
    items = runs.find(inputs, output, results, cassi=mask is not None, recursive=recursive)
    plane = None if mask is None else read_plane(mask, ("mask",), "mask")
    engine = models.prepare(
        cassi=mask is not None,
        model_id=model,
        weights=weights,
        device=device,
        encoding=encoding,
        max_bytes=max_bytes,
        threads=threads,
    )
    ledger = Ledger(fingerprint=runs.fingerprint(engine, results, plane))
    items = runs.decided(
        items, results, skip_existing=skip_existing, ledger=ledger if resume else None
    )
    if dry_run:
        for item in items:
            verb = "keep" if item.finished else "write"
            console.show_note(f"would {verb} {item.target} from {item.source}")
        raise typer.Exit(EXIT_OK)
    keeps_manifest = resume or len(items) > 1
    job = runs.SpectralJob(
        engine=engine,
        items=items,
        results=results,
        mask=plane,
        references=runs.References(path=ref, protocol=scoring, allow_missing=allow_missing)
        if ref
        else None,
        options={"encoding": engine.encoding, "mask": str(mask or "")},
        ledger=ledger if keeps_manifest else None,
    )
    with console.RunDisplay(as_json=as_json, quiet=quiet) as display:
        report = runs.run(job, display)
    console.show_summary(report, as_json=as_json, quiet=quiet)
    for path in reports or []:
        write(report, path)
    raise typer.Exit(report.exit_code)
