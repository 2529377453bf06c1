"""``restore check`` says what is wrong with pictures; ``restore auto`` mends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restorecli.commands import options as of
from restorecli.commands.asking import asks
from restorecli.commands.help import guided
from restorecli.errors import EXIT_OK, EXIT_SOME_FAILED, RestoreError, UsageError
from restorecli.limits import DEFAULT_MAX_PIXELS, STREAM
from restorecli.machine import streams

if TYPE_CHECKING:
    from restorecli.console.checks import Display
    from restorecli.runs.items import Item
    from restorecli.runs.job import Job
    from restorecli.scoring.faults.check import Checked

Pictures = Annotated[
    list[str],
    typer.Argument(metavar="INPUT...", help="Give pictures, folders, patterns or @list."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedCheck:
    """One call of ``restore check``."""

    inputs: Pictures
    recursive: of.Recursive = False
    max_pixels: of.MaxPixels = DEFAULT_MAX_PIXELS
    as_json: of.Json = False
    quiet: of.Quiet = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedAuto:
    """One call of ``restore auto``: what the tasks can be asked for, where it fits all of them."""

    inputs: Pictures
    output: of.Output = None
    recursive: of.Recursive = False
    overwrite: of.Overwrite = False
    skip_existing: of.SkipExisting = False
    resume: of.Resume = False
    bits: of.Bits = "source"
    metadata: of.Metadata = "keep"
    format: of.Format = "source"
    jpeg_quality: of.JpegQuality = None
    max_pixels: of.MaxPixels = DEFAULT_MAX_PIXELS
    dry_run: of.DryRun = False
    effort: of.Effort = None
    strength: of.Strength = None
    offline: of.Offline = False
    device: of.Device = "auto"
    precision: of.Precision = "auto"
    max_memory: of.MaxMemory = None
    threads: of.Threads = None
    as_json: of.Json = False
    quiet: of.Quiet = False


@guided(
    ("restore check photo.jpg", "Says what is wrong with it, and what to type."),
    ("restore check holiday/ -r", "Judges every picture of a tree, and counts."),
    ("restore check holiday/ --json > check.jsonl", "Writes a line of JSON for each picture."),
    codes=(0, 1, 2, 3, 130),
)
@asks(AskedCheck)
def check(**options: Any) -> None:
    """Say what is wrong with pictures, and which command would mend it.

    Nothing is written. When it is not sure, it says so and recommends nothing.
    """
    asked = AskedCheck(**options)
    if asked.as_json:
        streams.check_output()

    from restorecli.console import checks as show
    from restorecli.runs.degrade import exit_code

    found = show.Display(as_json=asked.as_json, quiet=asked.quiet)
    outcome = checked(asked, found)
    found.summary()
    raise typer.Exit(exit_code([error for _, _, error in outcome]))


@guided(
    ("restore auto photo.jpg", "Says what is wrong with it, and mends it."),
    ("restore auto holiday/ -r -o better/", "Writes into better/ what needed mending."),
    ("restore auto holiday/ -n", "Says what would be done; writes nothing."),
    codes=(0, 1, 2, 3, 4, 5, 130),
)
@asks(AskedAuto)
def auto(**options: Any) -> None:
    """Say what is wrong with pictures, then run the command that mends it.

    A picture that has nothing wrong, or not surely enough, is left as it is and not written.
    """
    asked = AskedAuto(**options)
    refuse(asked)

    from restorecli.console import checks as show

    looked = AskedCheck(inputs=asked.inputs, recursive=asked.recursive, max_pixels=asked.max_pixels)
    found = show.Display(as_json=asked.as_json, quiet=asked.quiet)
    outcome = checked(looked, found)
    found.summary()
    codes = [error.exit_code for _, _, error in outcome if error]
    if len(codes) == len(outcome):
        raise typer.Exit(codes[0])
    tasks: dict[str, set[str]] = {}
    for item, one, _ in outcome:
        if one and one.verdict.task:
            tasks.setdefault(one.verdict.task, set()).add(str(item.source))
    ended = carried_out(jobs(tasks, asked), asked)
    raise typer.Exit(EXIT_SOME_FAILED if codes and ended == EXIT_OK else ended)


def refuse(asked: AskedAuto) -> None:
    """Raise ``UsageError`` for what several tasks in one run cannot do."""
    from restorecli.commands.parsing import refuse_contradictions

    if asked.as_json:
        streams.check_output()
    if STREAM in asked.inputs or asked.output == STREAM:
        raise UsageError(
            "restore auto reads pictures twice, to check and to mend: - does not go.",
            hint="Name files; `restore check -` reads one from standard input.",
        )
    refuse_contradictions(as_task(asked))


def checked(
    asked: AskedCheck, display: Display
) -> list[tuple[Item, Checked | None, RestoreError | None]]:
    """Judge every picture, telling of each; Ctrl-C ends it at once."""
    from restorecli.runs.naming import Naming
    from restorecli.runs.selection import expand, select
    from restorecli.scoring.faults.check import check_data, check_file

    naming = Naming(task="check")
    found = select(expand(asked.inputs), naming, recursive=asked.recursive, existing="replace")
    outcome: list[tuple[Item, Checked | None, RestoreError | None]] = []
    for item in found.items:
        one, error = None, item.error
        if error is None:
            try:
                if item.data is not None:
                    one = check_data(item.data, str(item.source), max_pixels=asked.max_pixels)
                else:
                    one = check_file(item.source, max_pixels=asked.max_pixels)
            except RestoreError as problem:
                error = problem
        display.show(str(item.source), one, error, of_many=len(found.items) > 1)
        outcome.append((item, one, error))
    return outcome


def as_task(asked: AskedAuto) -> of.Asked:
    """The options of a task's command."""
    given = {name: getattr(asked, name) for name in asked.__dataclass_fields__}
    return of.Asked(**given)


def jobs(tasks: Mapping[str, set[str]], asked: AskedAuto) -> list[Job]:
    """A job for each task; all are there before the first one writes anything."""
    from restorecli.commands.restore import TASKS, job_of

    made = []
    for task in TASKS:
        if task in tasks:
            job = job_of([(task, as_task(asked))])
            items = [item for item in job.selection.items if str(item.source) in tasks[task]]
            made.append(replace(job, selection=replace(job.selection, items=items)))
    return made


def carried_out(made: Sequence[Job], asked: AskedAuto) -> int:
    """Run the jobs one after the other, or say what they would do; the worst exit code."""
    from restorecli import console
    from restorecli.commands import models
    from restorecli.commands.restore import planned, tell_of
    from restorecli.runs.run import run

    codes = [EXIT_OK]
    for job in made:
        found = [models.fetch(m, offline=asked.offline, dry_run=asked.dry_run) for m in job.models]
        if asked.dry_run:
            console.show_plan(
                [planned(item) for item in job.selection.items], as_json=asked.as_json
            )
            continue
        for model in job.models:
            tell_of(model, as_task(asked))
        with console.RunDisplay(as_json=asked.as_json, quiet=asked.quiet) as display:
            report = run(job.with_models(found), display)
        console.show_summary(report, as_json=asked.as_json, quiet=asked.quiet)
        codes.append(report.exit_code)
        if report.interrupted:
            break
    return max(codes)
