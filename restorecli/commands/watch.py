"""``restore watch``: pictures are restored as they arrive in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from restorecli.commands import models
from restorecli.commands.asking import asks
from restorecli.commands.help import guided
from restorecli.commands.options import WatchAsked
from restorecli.commands.parsing import refuse_contradictions
from restorecli.commands.restore import chain_of, files_of, naming_of, tell_of
from restorecli.commands.steps import each, parse_tasks
from restorecli.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from restorecli.runs.job import Job
    from restorecli.runs.naming import Naming

WAKE_MS = 500  # at most, between two looks at files that may still be written
GATHER_MS = 100  # of messages that belong together


@guided(
    (
        "restore watch incoming/ -o clean/ --task denoise",
        "Restores every picture that is put into incoming/, until Ctrl-C.",
    ),
    (
        "restore watch scans/ -o clean/ --task derain,denoise -r --json",
        "Does two tasks on each, in folders below, too, and prints a line of JSON for it.",
    ),
    (
        "restore watch camera/ -o clean/ --task lowlight --settle 10",
        "Waits until a file has not changed for ten seconds.",
    ),
    codes=(0, 1, 2, 3, 4, 5),
)
@asks(WatchAsked)
def watch(**options: Any) -> None:
    """Restore pictures as they arrive in a folder, until Ctrl-C or SIGTERM.

    A picture is begun when its file is complete. Whatever ends the command, no half result is left,
    and the next start goes on: the manifest of the results knows what is finished.
    """
    asked = WatchAsked(**options)
    steps = each(
        parse_tasks(asked.tasks), {**asdict(asked), "inputs": [asked.folder], "resume": True}
    )
    for _, step in steps:
        refuse_contradictions(step)
    try:
        import watchfiles  # noqa: F401
    except ImportError as error:
        from restorecli.machine.extras import install_hint

        raise UsageError(
            "restore watch needs a further package.", hint=install_hint("watch")
        ) from error

    from restorecli.files.addresses import is_address, path_of
    from restorecli.runs.items import Selection
    from restorecli.runs.job import Job

    shared = steps[0][1]
    if is_address(asked.folder):
        raise UsageError(f"{asked.folder} is an address: only folders here can be watched.")
    folder = path_of(asked.folder)
    chain = chain_of(steps)
    naming = naming_of(chain, shared)
    if naming.to_stdout or naming.names_a_file:
        raise UsageError(f"-o {asked.output} is no folder, and there may be several results.")
    job = Job(steps=tuple(chain), selection=Selection(items=()), files=files_of(shared))
    found = [models.fetch(model, offline=asked.offline, dry_run=False) for model in job.models]
    for model in job.models:
        tell_of(model, shared)
    raise typer.Exit(restore(folder, job.with_models(found), naming, asked))


def restore(folder: Path, job: Job, naming: Naming, asked: WatchAsked) -> int:
    """Watch until somebody ends it; the exit code."""
    from restorecli import console
    from restorecli.engine.chain import prepare_chain
    from restorecli.runs.watch import Watch

    with console.RunDisplay(as_json=asked.as_json, quiet=asked.quiet) as display:
        watched = Watch(
            chain=prepare_chain([step.engine for step in job.steps]),
            job=job,
            naming=naming,
            folder=folder,
            listener=display,
            recursive=asked.recursive,
            settle_s=asked.settle,
        )
        if not asked.quiet:
            console.show_note(f"Watching {folder}; Ctrl-C ends it.")
        try:
            watched.look(told=True)
            for told in messages(folder, recursive=asked.recursive):
                watched.look(told=told)
        except KeyboardInterrupt:
            pass  # how it ends
    counts = watched.counts
    if asked.as_json:
        known = {status: counts[status] for status in ("ok", "failed", "skipped")}
        console.show_json({"type": "summary", "counts": known})
    if not asked.quiet:
        console.show_note(f"Ended: {counts['ok']} restored, {counts['failed']} failed.")
    return EXIT_SOME_FAILED if counts["failed"] else EXIT_OK


def messages(folder: Path, *, recursive: bool) -> Iterator[bool]:
    """Now and then, and as soon as something moves in ``folder``: whether it did."""
    import watchfiles

    coming = watchfiles.watch(
        folder,
        recursive=recursive,
        watch_filter=None,
        debounce=GATHER_MS,
        rust_timeout=WAKE_MS,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    for changes in coming:
        yield bool(changes)
