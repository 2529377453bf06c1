"""What ``restore derain``, ``restore dehaze``, … can be asked for: each option, once.

Names, types and help texts of the command line are made of the fields of `Asked`. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from restorecli.limits import DEFAULT_MAX_PIXELS, DEFAULT_OVERLAP_PX

Inputs = Annotated[
    list[str],
    typer.Argument(help="Pictures, folders, patterns, @list of names, or - for standard input."),
]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", help="File (for one picture), folder, or - for stdout."),
]
Name = Annotated[
    str | None,
    typer.Option("--name", help="Names of results, from {stem} {task} {model} {suffix}."),
]
InPlace = Annotated[
    bool, typer.Option("--in-place", help="Replace each picture by its result, once verified.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on: skip what the results' manifest calls finished.")
]
Bits = Annotated[
    Literal["source", "8", "16"], typer.Option("--bits", help="Of the results' channels.")
]
Metadata = Annotated[
    Literal["keep", "safe", "none"],
    typer.Option("--metadata", help="safe: without place, owner, serial numbers. none: no EXIF."),
]
Format = Annotated[
    Literal["source", "png", "jpeg", "webp", "tiff", "avif", "jxl"],
    typer.Option("--format", help="Of the results. source: what each picture really is."),
]
JpegQuality = Annotated[
    str | None,
    typer.Option(
        "--jpeg-quality",
        metavar="N|source",
        help="Of JPEG results. Default: the source's, but at least 95, colours in full.",
    ),
]
MaxPixels = Annotated[
    int, typer.Option("--max-pixels", min=1, help="Refuse files that promise more.")
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
Effort = Annotated[
    str | None,
    typer.Option("--effort", help="fast (bundled), or best: downloads a full-size network once."),
]
Quality = Annotated[
    str | None, typer.Option("--quality", hidden=True, help="The former name of --effort.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Never download anything.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
Tile = Annotated[
    str, typer.Option("--tile", help="auto (whole image if it fits), none, or a size in pixels.")
]
Overlap = Annotated[
    int | None,
    typer.Option(
        "--overlap",
        help=f"Pixels that neighbouring tiles share. Default: {DEFAULT_OVERLAP_PX}, at most half.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Most memory to use, such as 2GB or 1.5GiB: lower strips, then tiles, else an error.",
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="That compute. Default: one for each core.")
]
EngineName = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="ray: several devices, or a cluster.")
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address", metavar="auto|HOST:PORT", help="Cluster. Default: one for this run."
    ),
]
Actors = Annotated[
    int | None, typer.Option("--actors", min=1, help="Default: as many as there is room for.")
]
GpusPerActor = Annotated[
    float | None,
    typer.Option("--gpus-per-actor", min=0, help="Such as 0.5. Default: 1 where there are any."),
]
CpusPerActor = Annotated[
    int | None, typer.Option("--cpus-per-actor", min=1, help="And threads. Default: 1.")
]
Ref = Annotated[
    Path | None,
    typer.Option("--ref", metavar="DIR", help="Clean pictures: score input and result."),
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="How to score. Default: the task's own. "
        "published: restore and score as the model's authors do.",
    ),
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Restore what has no reference, unscored.")
]
Reports = Annotated[
    list[str] | None,
    typer.Option("--report", metavar="FILE", help="Write .json, .jsonl, .csv, .md or .html."),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="One line of JSON for each picture and a last one, on stdout."),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call of a task's command, as it was typed."""

    inputs: Inputs
    output: Output = None
    recursive: Recursive = False
    overwrite: Overwrite = False
    skip_existing: SkipExisting = False
    resume: Resume = False
    in_place: InPlace = False
    name: Name = None
    bits: Bits = "source"
    metadata: Metadata = "keep"
    format: Format = "source"
    jpeg_quality: JpegQuality = None
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS
    dry_run: DryRun = False
    model: Model = None
    weights: Weights = None
    effort: Effort = None
    quality: Quality = None
    offline: Offline = False
    device: Device = "auto"
    precision: Precision = "auto"
    tile: Tile = "auto"
    overlap: Overlap = None
    max_memory: MaxMemory = None
    threads: Threads = None
    engine: EngineName = "local"
    ray_address: RayAddress = None
    actors: Actors = None
    gpus_per_actor: GpusPerActor = None
    cpus_per_actor: CpusPerActor = None
    ref: Ref = None
    protocol: ProtocolName = None
    allow_missing: AllowMissing = False
    reports: Reports = None
    as_json: Json = False
    quiet: Quiet = False
