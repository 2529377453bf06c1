"""What ``restore derain``, ``restore dehaze``, … can be asked for: each option, once.

Names, types and help texts of the command line are made of the fields of `Asked`. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from restorecli.commands import completion, log
from restorecli.commands.help import CLUSTER, FILES, MACHINE, QUALITY, SCORES, TOLD, WHAT
from restorecli.commands.pages import Open
from restorecli.limits import DEFAULT_MAX_PIXELS, DEFAULT_OVERLAP_PX

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="Give pictures, folders, patterns, @FILE (a list of names), or - for standard input.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE|DIR|-",
        rich_help_panel=WHAT,
        help="Write there: a file (for one picture), a folder, or - for standard output. "
        "Default: beside the picture or folder.",
    ),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "-r", "--recursive", rich_help_panel=WHAT, help="Take pictures in folders below, too."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", rich_help_panel=WHAT, help="Replace results that exist.")
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing", rich_help_panel=WHAT, help="Keep results that exist and go on."
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        rich_help_panel=WHAT,
        help="Go on after an interruption: skip what the manifest of the results calls finished.",
    ),
]
InPlace = Annotated[
    bool,
    typer.Option(
        "--in-place",
        rich_help_panel=WHAT,
        help="Replace each picture by its result, once that is verified.",
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="PATTERN",
        rich_help_panel=WHAT,
        help="Name results by a pattern of {stem} {task} {model} {suffix}.",
    ),
]
WithPreview = Annotated[
    bool,
    typer.Option(
        "--preview",
        rich_help_panel=WHAT,
        help="Write one detail before | after, side by side, instead of the result: in seconds. "
        "Up to 1 megapixel it has the very pixels of the result. In larger pictures the network "
        "sees only 1 megapixel around it: its sums over the whole picture differ a little, tone "
        "and direction do not.",
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(
        "--crop",
        metavar="WxH+X+Y",
        rich_help_panel=WHAT,
        help="Choose the detail of --preview: width, height, and its place from the left and top. "
        "Default: 512x512 in the middle.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "-n", "--dry-run", rich_help_panel=WHAT, help="Say what would happen; write nothing."
    ),
]
Bits = Annotated[
    Literal["source", "8", "16"],
    typer.Option(
        "--bits",
        metavar="source|8|16",
        rich_help_panel=FILES,
        help="Write channels of so many bits.",
    ),
]
Metadata = Annotated[
    Literal["keep", "safe", "none"],
    typer.Option(
        "--metadata",
        metavar="keep|safe|none",
        rich_help_panel=FILES,
        help="Keep what the picture carries; safe: leave out place, owner and serial numbers; "
        "none: leave out all EXIF.",
    ),
]
Format = Annotated[
    Literal["source", "png", "jpeg", "webp", "tiff", "avif", "jxl"],
    typer.Option(
        "--format",
        metavar="FORMAT",
        rich_help_panel=FILES,
        help="Write png, jpeg, webp, tiff, avif or jxl; source: what each picture really is.",
    ),
]
JpegQuality = Annotated[
    str | None,
    typer.Option(
        "--jpeg-quality",
        metavar="N|source",
        rich_help_panel=FILES,
        help="Write JPEG at this quality, 1 to 100. Default: the source's, but at least 95, with "
        "colours in full.",
    ),
]
MaxPixels = Annotated[
    int,
    typer.Option(
        "--max-pixels",
        min=1,
        metavar="N",
        rich_help_panel=FILES,
        help="Refuse pictures that promise more pixels.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="ID",
        autocompletion=completion.models,
        rich_help_panel=QUALITY,
        help="Use this network of `restore models list`. Default: the bundled one.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        rich_help_panel=QUALITY,
        help="Use a checkpoint of your own: .safetensors, or .pth of tensors.",
    ),
]
Strength = Annotated[
    str | None,
    typer.Option(
        "--strength",
        metavar="X",
        rich_help_panel=QUALITY,
        help="Make this share of the change, from 0 (the picture as it was) to 1. Default: 1.",
    ),
]
Ensemble = Annotated[
    bool,
    typer.Option(
        "--ensemble",
        rich_help_panel=QUALITY,
        help="Take the mean over eight flips and turns: eight times slower. Of rain, which falls "
        "from above, over the picture and its mirror image.",
    ),
]
Tasks = Annotated[
    str,
    typer.Option(
        "--task",
        metavar="TASK,TASK",
        rich_help_panel=WHAT,
        help="Do these one after the other: derain, desnow, dehaze, denoise, lowlight, deblur, "
        "defocus.",
    ),
]
ModelOfEach = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="TASK=ID,TASK=ID",
        rich_help_panel=QUALITY,
        help="Use these networks of `restore models list`. Default: the bundled ones.",
    ),
]
WeightsOfEach = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="TASK=FILE,TASK=FILE",
        rich_help_panel=QUALITY,
        help="Use checkpoints of your own: .safetensors, or .pth of tensors.",
    ),
]
StrengthOfEach = Annotated[
    str | None,
    typer.Option(
        "--strength",
        metavar="X|TASK=X,TASK=X",
        rich_help_panel=QUALITY,
        help="Make this share of every change, or of each one, from 0 (the picture as it was) to "
        "1. Default: 1.",
    ),
]
Effort = Annotated[
    str | None,
    typer.Option(
        "--effort",
        metavar="fast|best",
        autocompletion=completion.one_of("fast", "best"),
        rich_help_panel=QUALITY,
        help="Use the bundled network (fast), or a full-size one that is downloaded once (best).",
    ),
]
Quality = Annotated[
    str | None, typer.Option("--quality", hidden=True, help="Is the former name of --effort.")
]
Offline = Annotated[
    bool, typer.Option("--offline", rich_help_panel=QUALITY, help="Never download anything.")
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        autocompletion=completion.devices,
        rich_help_panel=MACHINE,
        help="Compute on auto, cpu, cuda, cuda:N or mps.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="PRECISION",
        autocompletion=completion.precisions,
        rich_help_panel=MACHINE,
        help="Compute in auto, fp32, bf16 or fp16.",
    ),
]
Tile = Annotated[
    str,
    typer.Option(
        "--tile",
        metavar="N|none",
        autocompletion=completion.one_of("auto", "none"),
        rich_help_panel=MACHINE,
        help="Cut into tiles of N pixels, or never (none); auto: only what does not fit whole.",
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option(
        "--overlap",
        metavar="N",
        rich_help_panel=MACHINE,
        help="Let neighbouring tiles share N pixels. "
        f"Default: {DEFAULT_OVERLAP_PX}, at most half a tile.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        rich_help_panel=MACHINE,
        help="Use no more memory, such as 2GB or 1.5GiB: lower strips, then tiles, else an error.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        metavar="N",
        rich_help_panel=MACHINE,
        help="Compute with N threads. Default: one for each core.",
    ),
]
EngineName = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--engine",
        metavar="local|ray",
        rich_help_panel=CLUSTER,
        help="Run in this process, or by ray on several devices or a cluster.",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="auto|HOST:PORT",
        rich_help_panel=CLUSTER,
        help="Join this cluster. Default: start one for this run.",
    ),
]
Actors = Annotated[
    int | None,
    typer.Option(
        "--actors",
        min=1,
        metavar="N",
        rich_help_panel=CLUSTER,
        help="Start N workers. Default: as many as there is room for.",
    ),
]
GpusPerActor = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-actor",
        min=0,
        metavar="X",
        rich_help_panel=CLUSTER,
        help="Give each worker X GPUs, such as 0.5. Default: 1 where there are any.",
    ),
]
CpusPerActor = Annotated[
    int | None,
    typer.Option(
        "--cpus-per-actor",
        min=1,
        metavar="N",
        rich_help_panel=CLUSTER,
        help="Give each worker N cores and threads. Default: 1.",
    ),
]
Ref = Annotated[
    Path | None,
    typer.Option(
        "--ref",
        metavar="DIR",
        rich_help_panel=SCORES,
        help="Score pictures and results against the clean pictures there.",
    ),
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="NAME",
        autocompletion=completion.protocols_of_tasks,
        rich_help_panel=SCORES,
        help="Score by this protocol. Default: the task's own. "
        "published: restore and score as the model's authors do.",
    ),
]
AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing", rich_help_panel=SCORES, help="Restore what has no reference, unscored."
    ),
]
Reports = Annotated[
    list[str] | None,
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
        help="Print a line of JSON for each picture and a last one, on standard output.",
    ),
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", rich_help_panel=TOLD, help="Print errors only.")
]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v",
        "--verbose",
        rich_help_panel=TOLD,
        callback=log.be_verbose,
        help="Say why this device, precision, strip height or tile was chosen.",
    ),
]
Log = Annotated[
    Path | None,
    typer.Option(
        "--log",
        metavar="FILE",
        rich_help_panel=TOLD,
        callback=log.keep,
        help="Append all that is said, and why, to FILE, with the time.",
    ),
]


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
    preview: WithPreview = False
    crop: Crop = None
    dry_run: DryRun = False
    model: Model = None
    weights: Weights = None
    effort: Effort = None
    quality: Quality = None
    strength: Strength = None
    ensemble: Ensemble = False
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
    open_page: Open = False
    as_json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False
    log: Log = None


WatchedFolder = Annotated[
    str, typer.Argument(metavar="DIR", help="Give the folder in which pictures arrive.")
]
WatchedOutput = Annotated[
    str,
    typer.Option(
        "-o", "--output", metavar="DIR", rich_help_panel=WHAT, help="Write results there."
    ),
]
Settle = Annotated[
    float,
    typer.Option(
        "--settle",
        min=0.1,
        metavar="S",
        rich_help_panel=WHAT,
        help="Take a file for complete when it has not changed for S seconds.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _InARow:
    """How tasks that run in a row, each with a network of its own, compute."""

    model: ModelOfEach = None
    weights: WeightsOfEach = None
    strength: StrengthOfEach = None
    ensemble: Ensemble = False
    effort: Effort = None
    offline: Offline = False
    device: Device = "auto"
    precision: Precision = "auto"
    tile: Tile = "auto"
    overlap: Overlap = None
    max_memory: MaxMemory = None
    threads: Threads = None
    quiet: Quiet = False
    verbose: Verbose = False
    log: Log = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchAsked(_InARow):
    """One call of ``restore watch``, as it was typed."""

    folder: WatchedFolder
    output: WatchedOutput
    tasks: Tasks
    recursive: Recursive = False
    settle: Settle = 1.0
    name: Name = None
    format: Format = "source"
    bits: Bits = "source"
    metadata: Metadata = "keep"
    jpeg_quality: JpegQuality = None
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS
    as_json: Json = False


TaskNames = Annotated[
    str,
    typer.Argument(metavar="TASK", help="Give a task, or several in a row: derain,denoise."),
]
FrameSize = Annotated[
    str,
    typer.Option(
        "-s",
        "--size",
        metavar="WxH",
        rich_help_panel=WHAT,
        help="Take frames of this width and height: nothing in them says it.",
    ),
]
PixFmt = Annotated[
    Literal["rgb24", "rgb48le"],
    typer.Option(
        "--pix-fmt",
        metavar="FORMAT",
        rich_help_panel=WHAT,
        help="Take and give rgb24 (8 bits) or rgb48le (16 bits), as ffmpeg calls them.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FramesAsked(_InARow):
    """One call of ``restore frames``, as it was typed."""

    task: TaskNames
    size: FrameSize
    pix_fmt: PixFmt = "rgb24"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainAsked(Asked):
    """One call of ``restore run``: some options have a value for each task."""

    tasks: Tasks
    model: ModelOfEach = None
    weights: WeightsOfEach = None  # type: ignore[assignment]
    strength: StrengthOfEach = None
