"""``restore derain``, ``restore dehaze``, …: one command for each task."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from restorecli.options import DEFAULT_OVERLAP_PX, parse_overlap, parse_tile

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
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
Tile = Annotated[
    str, typer.Option("--tile", help="auto (whole image if it fits), none, or a size in pixels.")
]
Overlap = Annotated[int, typer.Option("--overlap", help="Pixels that neighbouring tiles share.")]
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
        device: Device = "auto",
        precision: Precision = "auto",
        tile: Tile = "auto",
        overlap: Overlap = DEFAULT_OVERLAP_PX,
        as_json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        tile_px = parse_tile(tile)
        overlap_px = parse_overlap(overlap, tile_px)

        from restorecli import console
        from restorecli.inputs import select

        selection = select(
            inputs,
            task,
            output,
            recursive=recursive,
            overwrite=overwrite,
            skip_existing=skip_existing,
        )
        if dry_run:
            planned = [
                (str(item.source), str(item.target))
                for item in selection.items
                if not (item.error or item.finished)
            ]
            console.show_plan(planned, as_json=as_json)
            return

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
        )
        with console.RunDisplay(as_json=as_json, quiet=quiet) as display:
            summary = engines.run(engine, task, selection, overwrite=overwrite, listener=display)
        console.show_summary(summary, as_json=as_json, quiet=quiet)
        raise typer.Exit(summary.exit_code)

    command.__doc__ = TASK_HELP[task]
    return command


def _end_like_ctrl_c_on_sigterm() -> None:
    """SIGTERM ends a run as Ctrl-C does: no half-written file, and a summary."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
