"""``restore derain``, ``restore dehaze``, …: one command for each task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from restorecli.commands import models
from restorecli.commands.asking import asks
from restorecli.commands.help import guided
from restorecli.commands.options import Asked
from restorecli.commands.pages import check_reports, write_reports
from restorecli.commands.parsing import (
    parse_crop,
    parse_effort,
    parse_jpeg_quality,
    parse_memory,
    parse_overlap,
    parse_strength,
    parse_tile,
    refuse_contradictions,
    what_exists,
)
from restorecli.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError
from restorecli.limits import STREAM
from restorecli.machine import streams
from restorecli.machine.kernels.ready import make_kernels

if TYPE_CHECKING:
    from restorecli.engine.settings import EngineSettings
    from restorecli.images import FileOptions
    from restorecli.runs.items import Item
    from restorecli.runs.job import Job, Pool, References, Step
    from restorecli.runs.naming import Naming
    from restorecli.runs.preview import Preview
    from restorecli.weights import ChosenModel, PublishedSetting

PUBLISHED = "published"
TO_A_FILE = "Give -o FILE, or send it on: … > result.png"


class TaskFacts(NamedTuple):
    """What the command line has to know of a task."""

    help: str  # its first sentence stands in the list of commands
    protocol: str  # of `restore metrics`, by which it scores unless another one is named


TASKS = {
    "derain": TaskFacts("Remove rain streaks.", "rain"),
    "desnow": TaskFacts("Remove falling snow.", "snow100k"),
    "dehaze": TaskFacts("Remove haze and fog.", "sots"),
    "denoise": TaskFacts("Remove noise.", "denoise"),
    "lowlight": TaskFacts("Brighten photographs taken in the dark.", "lol"),
    "deblur": TaskFacts("Sharpen photographs blurred by motion.", "gopro"),
    "defocus": TaskFacts("Sharpen photographs that are out of focus.", "rgb"),
}


def task_command(task: str) -> Callable[..., None]:
    """The Typer command of one task, whose options are the fields of `Asked`."""

    @guided(
        (f"restore {task} photo.jpg", f"Writes photo.{task}.jpg beside it."),
        (
            f"restore {task} holiday/ -r -o clean/ --resume",
            "Restores a tree of folders into clean/, and goes on after an interruption.",
        ),
        (
            f"restore {task} set/input -o out --ref set/target --report scores.html",
            "Scores the results against clean pictures of the same names, with a page to look at.",
        ),
        codes=(0, 1, 2, 3, 4, 5, 130),
    )
    @asks(Asked)
    def command(**options: Any) -> None:
        restore([(task, Asked(**options))])

    command.__doc__ = TASKS[task].help
    return command


def restore(steps: Sequence[tuple[str, Asked]]) -> None:
    """Make a job of what was asked of each task, carry it out, and show what came of it.

    Steps differ in what concerns their network alone; all else is that of the first one.
    """
    for _, step in steps:
        refuse_contradictions(step)
    asked = steps[0][1]
    if asked.as_json or asked.output == STREAM:
        streams.check_output()

    if not asked.dry_run and asked.engine == "local":
        make_kernels(half=asked.precision in {"auto", "bf16"})

    from restorecli import console
    from restorecli.files.addresses import path_of
    from restorecli.runs.run import run

    if asked.quality and not asked.quiet:
        console.show_note(
            "--quality is called --effort now; the old name goes with the next release."
        )
    reports = [path_of(name) for name in asked.reports or []]
    check_reports(reports, overwrite=asked.overwrite, open_page=asked.open_page)
    job = job_of(steps)
    found = [models.fetch(m, offline=asked.offline, dry_run=asked.dry_run) for m in job.models]
    for model in job.models:
        tell_of(model, asked)
    items = job.selection.items
    if asked.dry_run:
        console.show_plan([planned(item) for item in items], as_json=asked.as_json)
        raise typer.Exit(EXIT_SOME_FAILED if any(item.error for item in items) else EXIT_OK)
    if any(item.to_stdout for item in items) and streams.output_is_a_terminal():
        raise UsageError("The result is a picture, and would go to this terminal.", hint=TO_A_FILE)
    with console.RunDisplay(as_json=asked.as_json, quiet=asked.quiet) as display:
        report = run(job.with_models(found), display)
    console.show_summary(report, as_json=asked.as_json, quiet=asked.quiet)
    write_reports(
        report,
        reports,
        max_pixels=asked.max_pixels,
        quiet=asked.quiet,
        open_page=asked.open_page,
    )
    raise typer.Exit(report.exit_code)


def tell_of(model: ChosenModel, asked: Asked) -> None:
    """What a person ought to know of the network before it runs, unless they want quiet."""
    from restorecli import console

    if asked.quiet or model.entry is None:
        return
    if model.former_id:
        console.show_note(
            f"{model.former_id} was replaced by {model.entry.id}, which is used instead."
        )


def job_of(steps: Sequence[tuple[str, Asked]]) -> Job:
    """All that was asked for, checked and complete; raises a ``RestoreError``."""
    from restorecli.runs.job import make_job
    from restorecli.runs.selection import expand

    asked = steps[0][1]
    chain = chain_of(steps)
    return make_job(
        expand(asked.inputs),
        naming_of(chain, asked),
        chain,
        recursive=asked.recursive,
        existing=what_exists(asked),
        files=files_of(asked),
        references=references_of(chain[-1], asked),
        pool=pool_of(asked),
    )


def chain_of(steps: Sequence[tuple[str, Asked]]) -> list[Step]:
    """Each task, its network and where that computes."""
    from restorecli.runs.job import Step

    return [Step(task=task, engine=engine_of(model_of(task, own), own)) for task, own in steps]


def naming_of(chain: Sequence[Step], asked: Asked) -> Naming:
    """How the results of a chain are named."""
    from restorecli.runs.job import label
    from restorecli.runs.naming import Naming

    return Naming(
        task=label([step.task for step in chain]),
        output=asked.output,
        template=asked.name,
        model="+".join(step.engine.model.stem for step in chain),
        in_place=asked.in_place,
        format=None if asked.format == "source" else asked.format.upper(),
        preview=preview_of(asked),
    )


def preview_of(asked: Asked) -> Preview | None:
    """The detail to show instead of a result, if that was asked for."""
    from restorecli.engine.box import Box
    from restorecli.runs.preview import Preview

    place = parse_crop(asked)
    return Preview(crop=Box(*place) if place else None) if asked.preview else None


def files_of(asked: Asked) -> FileOptions:
    """What is wanted of the files of the results."""
    from restorecli.images import FileOptions

    return FileOptions(
        bits=asked.bits,
        metadata=asked.metadata,
        max_pixels=asked.max_pixels,
        jpeg_quality=parse_jpeg_quality(asked.jpeg_quality),
    )


def model_of(task: str, asked: Asked) -> ChosenModel:
    """The network that ``--model``, ``--effort`` or ``--weights`` names."""
    from restorecli.weights import choose_model, registry

    best = registry().best(task).id if parse_effort(asked) == "best" else None
    return choose_model(task, asked.model or best, asked.weights)


def engine_of(model: ChosenModel, asked: Asked) -> EngineSettings:
    """The network on a device, with the memory it may use."""
    from restorecli.engine.settings import EngineSettings

    published = None
    if asked.protocol == PUBLISHED:
        published = published_setting(model)
        refuse_other_settings(published, asked)
    tile = parse_tile(asked.tile)
    return EngineSettings(
        model=model,
        device=asked.device,
        precision=asked.precision,
        tile=tile,
        overlap_px=parse_overlap(None if published else asked.overlap, tile),
        max_bytes=parse_memory(asked.max_memory),
        published=published,
        threads=asked.threads,
        strength=parse_strength(asked.strength),
        ensemble=asked.ensemble,
    )


def references_of(step: Step, asked: Asked) -> References | None:
    """What to score against, and how: as the last task usually is, unless told otherwise."""
    from restorecli.runs.job import References
    from restorecli.scoring.metrics import find_protocol

    published = step.engine.published
    name = published.scoring if published else asked.protocol
    protocol = find_protocol(name or TASKS[step.task].protocol)
    if asked.ref is None:
        return None
    return References(folder=asked.ref, protocol=protocol, allow_missing=asked.allow_missing)


def pool_of(asked: Asked) -> Pool | None:
    """The actors of ``--engine ray``."""
    from restorecli.runs.job import Pool

    if asked.engine != "ray":
        return None
    return Pool(
        address=asked.ray_address,
        actors=asked.actors,
        gpus=asked.gpus_per_actor,
        cpus=asked.cpus_per_actor or 1,
        offline=asked.offline,
    )


def published_setting(model: ChosenModel) -> PublishedSetting:
    """How the authors of ``model`` test it; ``UsageError`` if that is not recorded."""
    if model.entry is not None and model.entry.published_setting is not None:
        return model.entry.published_setting
    name = model.entry.id if model.entry else model.id
    raise UsageError(
        f"--protocol {PUBLISHED}: how the authors of {name} test it is not recorded.",
        hint="`restore models show ID` prints what is known of a model; name it with --model.",
    )


def refuse_other_settings(setting: PublishedSetting, asked: Asked) -> None:
    """Raise ``UsageError`` if an option asks for something else than ``setting``."""
    recorded = {
        "--tile": str(setting.tile_px or "none"),
        "--overlap": str(setting.overlap_px),
        "--precision": "fp32",
    }
    given = {"--tile": asked.tile, "--precision": asked.precision}
    if asked.overlap is not None:
        given["--overlap"] = str(asked.overlap)
    for name, on in (
        ("--strength", parse_strength(asked.strength) < 1),
        ("--ensemble", asked.ensemble),
    ):
        if on:
            raise UsageError(
                f"{name} contradicts --protocol {PUBLISHED}: authors restore without it.",
                hint="Leave out one of them.",
            )
    for name, value in given.items():
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
