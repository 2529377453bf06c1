"""``restore bench``: speed and memory on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from restorecli.commands import completion
from restorecli.commands.help import TOLD, WHAT, guided
from restorecli.commands.options import Device, Log, MaxMemory, Precision, Verbose
from restorecli.commands.parsing import parse_memory, parse_size

if TYPE_CHECKING:
    from restorecli.engine.bench import Measured, Trial

COLUMNS = ("model", "seconds", "s/MP", "peak MB\n(predicted)", "strips\n(tiles)")


@guided(
    ("restore bench", "Measures every installed network on 1024×1024 pixels."),
    ("restore bench --model hint-derain-packed --size 12MP", "Measures one on a large photograph."),
    (
        "restore bench --size 4000x3000 --max-memory 2GB --json",
        "Measures what a bound on memory costs, for a program to read.",
    ),
    codes=(0, 2, 4, 5, 130),
)
def bench(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="ID",
            autocompletion=completion.models,
            rich_help_panel=WHAT,
            help="Measure only this network. Repeatable.",
        ),
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            rich_help_panel=WHAT,
            help="Measure on a picture of this width and height, or megapixels: 12MP.",
        ),
    ] = "1024x1024",
    repeats: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=WHAT,
            help="Run N times and show the median.",
        ),
    ] = 1,
    device: Device = "auto",
    precision: Precision = "auto",
    max_memory: MaxMemory = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", rich_help_panel=TOLD, help="Print JSON on standard output."),
    ] = False,
    verbose: Verbose = False,
    log: Log = None,
) -> None:
    """Measure seconds per megapixel and peak memory of each installed network."""
    plane, max_bytes = parse_size(size), parse_memory(max_memory)

    from restorecli import console
    from restorecli.engine import bench as benches  # imports torch

    names = models or [entry.id for entry in benches.installed()]
    results = []
    with console.Counted(len(names)) as bar:
        for name in names:
            bar.begin(name)
            trial = benches.Trial(
                model_id=name,
                size=plane,
                device=device,
                precision=precision,
                max_bytes=max_bytes,
                repeats=repeats,
            )
            results.append(_measure(trial))
            bar.finish(f"{name}: {results[-1].s_per_megapixel:.2f} s/MP")
    if as_json:
        console.show_json({"measured": [asdict(result) for result in results]})
    else:
        console.show_table(_title(plane, results), COLUMNS, [_cells(result) for result in results])


def _measure(trial: Trial) -> Measured:
    """One network, from picture to picture or to spectra."""
    from restorecli.engine import bench as benches
    from restorecli.weights import registry

    if not registry()[trial.model_id].makes_spectra:
        return benches.measure(trial)
    from restorecli.spectral.bench import measured

    return benches.measure(trial, measured)


def _title(size: tuple[int, int], results: Sequence[Measured]) -> str:
    ways = dict.fromkeys(f"{result.device}, {result.precision}" for result in results)
    return f"{size[1]}×{size[0]} pixels, {'; '.join(ways)} (s/MP: seconds per megapixel)"


def _cells(result: Measured) -> list[str]:
    """One line of the table, which is at most 80 characters wide."""
    tiles = "" if result.exact else f"\n({result.tile_px} px)"
    peak, predicted = result.peak_memory_bytes, result.predicted_memory_bytes
    return [
        result.model_id,
        f"{result.elapsed_s:.2f}",
        f"{result.s_per_megapixel:.2f}",
        f"{peak / 1e6:.0f} ({predicted / 1e6:.0f})",
        f"{result.strip_rows} rows{tiles}",
    ]
