"""``restore derain``, ``restore dehaze``, …: one command for each task."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from restorecli.commands import models
from restorecli.commands.parsing import check_engine, parse_memory, parse_overlap, parse_tile
from restorecli.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError, WeightsError
from restorecli.limits import DEFAULT_MAX_PIXELS, DEFAULT_OVERLAP_PX, STREAM

if TYPE_CHECKING:
    from restorecli.runs.selection import Item
    from restorecli.weights import PublishedSetting

PUBLISHED = "published"
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


def task_command(task: str) -> Callable[..., None]:
    """The Typer command of one task."""

    def command(
        inputs: Inputs,
        output: Output = None,
        recursive: Recursive = False,
        overwrite: Overwrite = False,
        skip_existing: SkipExisting = False,
        resume: Resume = False,
        in_place: InPlace = False,
        name: Name = None,
        bits: Bits = "source",
        metadata: Metadata = "keep",
        max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
        dry_run: DryRun = False,
        model: Model = None,
        weights: Weights = None,
        quality: Quality = None,
        offline: Offline = False,
        device: Device = "auto",
        precision: Precision = "auto",
        tile: Tile = "auto",
        overlap: Overlap = None,
        max_memory: MaxMemory = None,
        threads: Threads = None,
        engine: EngineName = "local",
        ray_address: RayAddress = None,
        actors: Actors = None,
        gpus_per_actor: GpusPerActor = None,
        cpus_per_actor: CpusPerActor = None,
        ref: Ref = None,
        protocol: ProtocolName = None,
        allow_missing: AllowMissing = False,
        reports: Reports = None,
        as_json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        tile_px = parse_tile(tile)
        overlap_px = parse_overlap(None if protocol == PUBLISHED else overlap, tile_px)
        max_bytes = parse_memory(max_memory)
        of_ray = {
            "--ray-address": ray_address,
            "--actors": actors,
            "--gpus-per-actor": gpus_per_actor,
            "--cpus-per-actor": cpus_per_actor,
        }
        check_engine(engine, of_ray, device=device, threads=threads)

        from restorecli import console
        from restorecli.files.addresses import is_remote, path_of
        from restorecli.images import FileOptions
        from restorecli.report import check_destination, write
        from restorecli.runs.manifest import Job, Ledger
        from restorecli.runs.picture import resumed
        from restorecli.runs.selection import Naming, expand, select
        from restorecli.scoring import score as scoring
        from restorecli.scoring.metrics import find_protocol

        report_paths = [path_of(name) for name in reports or []]
        for path in report_paths:
            check_destination(path, overwrite=overwrite)
        if weights and quality:
            raise UsageError(
                "--quality and --weights contradict each other.", hint="Give one of them."
            )
        model = models.chosen(task, model, quality)
        setting = None
        if protocol == PUBLISHED:
            setting = published_setting(task, model, weights)
            refuse_contradictions(setting, tile, overlap, precision)
            protocol = setting.scoring
        chosen = find_protocol(protocol or PROTOCOL_OF_TASK[task])
        label, model_sha256 = identity(task, model, weights)
        naming = Naming(task=task, output=output, template=name, model=label, in_place=in_place)
        paths = expand(inputs)
        if naming.output == STREAM and (as_json or ref):
            raise UsageError(
                "-o - writes the picture to stdout; it goes with neither --json nor --ref."
            )
        if in_place and ref:
            raise UsageError("--ref needs the input after the result is written: not --in-place.")
        if ref and any(map(is_remote, paths)):
            raise UsageError("--ref needs inputs on this machine's file systems.")
        selection = select(
            paths,
            naming,
            recursive=recursive,
            overwrite=overwrite,
            skip_existing=skip_existing,
            resume=resume,
        )
        options = {
            "task": task,
            "precision": precision,
            "tile": tile,
            "overlap": str(overlap_px),
            "max_memory": str(max_bytes),
            "bits": bits,
            "metadata": metadata,
        }
        if setting:
            options["as_published"] = setting.text
        ledger = Ledger(job=Job(model_sha256=model_sha256, options=options))
        if resume:
            selection = resumed(selection, ledger)
        scores = scoring.in_pass(paths, ref, chosen, allow_missing=allow_missing) if ref else None
        if model and weights is None:
            models.fetch(task, model, offline=offline, dry_run=dry_run)
        if dry_run:
            console.show_plan([planned(item) for item in selection.items], as_json=as_json)
            raise typer.Exit(EXIT_SOME_FAILED if any(i.error for i in selection.items) else EXIT_OK)

        network: dict[str, Any] = {
            "model_id": model,
            "weights": weights,
            "device": device,
            "precision": precision,
            "tile": tile_px,
            "overlap_px": overlap_px,
            "max_bytes": max_bytes,
            "published": setting,
        }
        files = FileOptions(bits=bits, metadata=metadata, max_pixels=max_pixels)
        display = console.RunDisplay(as_json=as_json, quiet=quiet)
        if engine == "ray":
            from restorecli.runs import ray as distributed

            pool = distributed.Pool(
                address=ray_address,
                actors=actors,
                gpus=gpus_per_actor,
                cpus=cpus_per_actor or 1,
            )
            with display:
                report = distributed.run(
                    pool, task, network, selection, model_id=label, offline=offline,
                    listener=display, scoring=scores, files=files, ledger=ledger,
                )  # fmt: skip
        else:
            from restorecli.engine import engine as restore  # they import torch
            from restorecli.runs import local as batch

            ready = restore.prepare(task, **network, threads=threads)
            with display:
                report = batch.run(
                    ready, task, selection,
                    listener=display, scoring=scores, files=files, ledger=ledger,
                )  # fmt: skip
        console.show_summary(report, as_json=as_json, quiet=quiet)
        for path in report_paths:
            write(report, path, read=scoring.read_pixels)
        raise typer.Exit(report.exit_code)

    command.__doc__ = TASK_HELP[task]
    return command


def identity(task: str, model: str | None, weights: Path | None) -> tuple[str, str]:
    """Name and sha256 of the network that will run; empty where loading it will fail."""
    from restorecli.weights import registry

    if weights is not None:
        try:
            return weights.stem, hashlib.sha256(weights.read_bytes()).hexdigest()
        except OSError:
            return weights.stem, ""
    try:
        entry = registry()[model] if model else registry().default(task)
    except WeightsError:
        return "", ""
    return entry.id, entry.sha256 or ""


def published_setting(task: str, model: str | None, weights: Path | None) -> PublishedSetting:
    """How the authors of the network that will run test it; ``UsageError`` if that is unknown."""
    from restorecli.weights import registry

    name = str(weights)
    if model or weights is None:
        entry = registry()[model] if model else registry().default(task)
        if entry.published_setting:
            return entry.published_setting
        name = entry.id
    raise UsageError(
        f"--protocol {PUBLISHED}: how the authors of {name} test it is not recorded.",
        hint="`restore models show ID` prints what is known of a model; name it with --model.",
    )


def refuse_contradictions(
    setting: PublishedSetting, tile: str, overlap_px: int | None, precision: str
) -> None:
    """Raise ``UsageError`` if an option asks for something else than ``setting``."""
    recorded = {
        "--tile": str(setting.tile_px or "none"),
        "--overlap": str(setting.overlap_px),
        "--precision": "fp32",
    }
    asked = {"--tile": tile, "--precision": precision}
    if overlap_px is not None:
        asked["--overlap"] = str(overlap_px)
    for name, value in asked.items():
        if value not in {"auto", recorded[name]}:
            raise UsageError(
                f"{name} {value} contradicts --protocol {PUBLISHED}: {setting.text}.",
                hint="Leave out one of them.",
            )


def planned(item: Item) -> dict[str, str]:
    """One line of ``--dry-run``."""
    if item.error:
        return {"input": str(item.source), "status": "failed", "error": str(item.error)}
    status = "skipped" if item.finished else "replacing" if item.replaces else "planned"
    return {"input": str(item.source), "output": str(item.target), "status": status}
