"""``restore derain``, ``restore dehaze``, …: one command for each task."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from restorecli.commands import models
from restorecli.options import DEFAULT_OVERLAP_PX, parse_memory, parse_overlap, parse_tile

PROTOCOL_OF_TASK = {
    "derain": "rain",
    "desnow": "snow100k",
    "dehaze": "sots",
    "denoise": "denoise",
    "lowlight": "lol",
    "deblur": "gopro",
    "defocus": "rgb",
}
TASK_HELP = {
    "derain": "Remove rain streaks.",
    "desnow": "Remove falling snow.",
    "dehaze": "Remove haze and fog.",
    "denoise": "Remove noise.",
    "lowlight": "Brighten photographs taken in the dark.",
    "deblur": "Sharpen photographs blurred by motion.",
    "defocus": "Sharpen photographs that are out of focus.",
}

Inputs = Annotated[list[Path], typer.Argument(help="Pictures or folders of pictures.")]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="File (for one picture) or folder for the results."),
]
Recursive = Annotated[
    bool, typer.Option("-r", "--recursive", help="Also pictures in folders of folders.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Keep results that exist and go on.")
]
DryRun = Annotated[
    bool, typer.Option("-n", "--dry-run", help="Say what would happen; write nothing.")
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Id from `restore models list`. Default: the bundled network."),
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", help="Checkpoint of your own: .safetensors, or .pth of tensors."),
]
Quality = Annotated[
    str | None,
    typer.Option("--quality", help="fast (bundled), or best: downloads a full-size network once."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never download anything.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
Tile = Annotated[
    str, typer.Option("--tile", help="auto (whole image if it fits), none, or a size in pixels.")
]
Overlap = Annotated[int, typer.Option("--overlap", help="Pixels that neighbouring tiles share.")]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Most memory to use, such as 2GB or 1.5GiB: lower strips, then tiles, else an error.",
    ),
]
Ref = Annotated[
    Path | None,
    typer.Option("--ref", metavar="DIR", help="Clean pictures: score input and result."),
]
ProtocolName = Annotated[
    str | None,
    typer.Option("--protocol", metavar="NAME", help="How to score. Default: the task's own."),
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Restore what has no reference, unscored.")
]
Reports = Annotated[
    list[Path] | None,
    typer.Option("--report", metavar="FILE", help="Write .json, .jsonl, .csv, .md or .html."),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="One line of JSON for each picture and a last one, on stdout."),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")]


def task_command(task: str) -> Callable[..., None]:
    """The Typer command of one task."""

    def command(
        inputs: Inputs,
        output: Output = None,
        recursive: Recursive = False,
        overwrite: Overwrite = False,
        skip_existing: SkipExisting = False,
        dry_run: DryRun = False,
        model: Model = None,
        weights: Weights = None,
        quality: Quality = None,
        offline: Offline = False,
        device: Device = "auto",
        precision: Precision = "auto",
        tile: Tile = "auto",
        overlap: Overlap = DEFAULT_OVERLAP_PX,
        max_memory: MaxMemory = None,
        ref: Ref = None,
        protocol: ProtocolName = None,
        allow_missing: AllowMissing = False,
        reports: Reports = None,
        as_json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        tile_px = parse_tile(tile)
        overlap_px = parse_overlap(overlap, tile_px)
        max_bytes = parse_memory(max_memory)

        from restorecli import console, scoring
        from restorecli.inputs import select
        from restorecli.metrics import find_protocol
        from restorecli.report import check_destination, write

        for path in reports or []:
            check_destination(path, overwrite=overwrite)
        chosen = find_protocol(protocol or PROTOCOL_OF_TASK[task])

        selection = select(
            inputs,
            task,
            output,
            recursive=recursive,
            overwrite=overwrite,
            skip_existing=skip_existing,
        )
        scores = scoring.in_pass(inputs, ref, chosen, allow_missing=allow_missing) if ref else None
        if dry_run:
            planned = [
                (str(item.source), str(item.target))
                for item in selection.items
                if not (item.error or item.finished)
            ]
            console.show_plan(planned, as_json=as_json)
            return

        if weights is None:
            model = models.chosen(task, model, quality, offline=offline)

        from restorecli import restore as engines  # imports torch

        _end_like_ctrl_c_on_sigterm()
        engine = engines.prepare(
            task,
            model_id=model,
            weights=weights,
            device=device,
            precision=precision,
            tile=tile_px,
            overlap_px=overlap_px,
            max_bytes=max_bytes,
        )
        with console.RunDisplay(as_json=as_json, quiet=quiet) as display:
            report = engines.run(
                engine,
                task,
                selection,
                overwrite=overwrite,
                listener=display,
                scoring=scores,
            )
        console.show_summary(report, as_json=as_json, quiet=quiet)
        for path in reports or []:
            write(report, path, read=scoring.read_pixels)
        raise typer.Exit(report.exit_code)

    command.__doc__ = TASK_HELP[task]
    return command


def _end_like_ctrl_c_on_sigterm() -> None:
    """SIGTERM ends a run as Ctrl-C does: no half-written file, and a summary."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
