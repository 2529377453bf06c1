"""``restore bench``: speed and memory on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from restorecli.commands.parsing import parse_memory, parse_size

if TYPE_CHECKING:
    from restorecli.engine.bench import Measured

COLUMNS = ("model", "seconds", "s/MP", "peak MB\n(predicted)", "strips\n(tiles)")


def bench(
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="ID", help="Only this network. Repeatable."),
    ] = None,
    size: Annotated[
        str, typer.Option(metavar="SIZE", help="Width and height, or megapixels: 12MP.")
    ] = "1024x1024",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", metavar="SIZE", help="As for `restore derain`.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, metavar="N", help="Runs; median is shown.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Measure seconds per megapixel and peak memory of each installed network."""
    plane, max_bytes = parse_size(size), parse_memory(max_memory)

    from restorecli import console
    from restorecli.engine import bench as benches  # imports torch

    results = [
        benches.measure(
            benches.Trial(
                model_id=model_id,
                size=plane,
                device=device,
                precision=precision,
                max_bytes=max_bytes,
                repeats=repeats,
            )
        )
        for model_id in models or [entry.id for entry in benches.installed()]
    ]
    if as_json:
        console.show_json({"measured": [asdict(result) for result in results]})
    else:
        console.show_table(_title(plane, results), COLUMNS, [_cells(result) for result in results])


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
