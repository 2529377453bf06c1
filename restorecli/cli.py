"""The command line: the app, and the one place where an error becomes an exit code."""

from __future__ import annotations

import atexit
import gc
import sys
from pathlib import Path
from typing import Annotated

import typer

from restorecli import __version__
from restorecli.commands import config, log, models
from restorecli.commands.bench import bench
from restorecli.commands.check import auto, check
from restorecli.commands.compare import compare
from restorecli.commands.degrade import degrade
from restorecli.commands.doctor import doctor
from restorecli.commands.frames import frames
from restorecli.commands.group import Commands
from restorecli.commands.help import MANAGING, MEASURING, RESTORING, App, guided
from restorecli.commands.metrics import metrics
from restorecli.commands.restore import TASKS, task_command
from restorecli.commands.run import run
from restorecli.commands.serve import serve
from restorecli.commands.spectral import spectral
from restorecli.commands.watch import watch
from restorecli.errors import EXIT_CODES, EXIT_INTERRUPTED, RestoreError
from restorecli.machine import streams
from restorecli.machine.allocator import collect_rarely
from restorecli.machine.cores import wait_asleep
from restorecli.machine.load import WATCH
from restorecli.machine.start import leave_out_what_compiles

app = App(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich would double the time to the first line
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"restore {__version__}")
        raise typer.Exit


@guided(
    ("restore derain photo.jpg", "Writes photo.derain.jpg beside it."),
    ("restore denoise scans/ -r -o clean/", "Restores a tree of folders into clean/."),
    ("restore help derain", "Explains a command, as restore derain --help does."),
    codes=tuple(EXIT_CODES),
)
@app.callback()
def restore(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Restore photographs spoiled by rain, snow, haze, noise, darkness, motion or defocus."""


for _task in TASKS:
    app.command(_task, rich_help_panel=RESTORING)(task_command(_task))
app.command("run", rich_help_panel=RESTORING)(run)
app.command("watch", rich_help_panel=RESTORING)(watch)
app.command("frames", rich_help_panel=RESTORING)(frames)
app.command("check", rich_help_panel=RESTORING)(check)
app.command("auto", rich_help_panel=RESTORING)(auto)
app.command("spectral", rich_help_panel=RESTORING)(spectral)
app.command("serve", rich_help_panel=RESTORING)(serve)
app.command("metrics", rich_help_panel=MEASURING)(metrics)
app.command("compare", rich_help_panel=MEASURING)(compare)
app.command("degrade", rich_help_panel=MEASURING)(degrade)
app.command("bench", rich_help_panel=MEASURING)(bench)
app.add_typer(models.app, name="models", rich_help_panel=MANAGING)
app.add_typer(config.app, name="config", rich_help_panel=MANAGING)
app.command("doctor", rich_help_panel=MANAGING)(doctor)


def _called() -> str:
    """The name that the command was called by, of the two it has: for help and examples."""
    return "restorecli" if Path(sys.argv[0]).stem == "restorecli" else "restore"


def main() -> None:
    """Run the command; failures that a user can act on end with one sentence and their code."""
    streams.prepare()
    streams.end_as_interrupted()
    collect_rarely()
    wait_asleep()
    WATCH.begin()
    leave_out_what_compiles()
    atexit.register(gc.freeze)  # the last search for cycles, among all of torch, takes 0.3 s
    try:
        try:
            app(prog_name=_called())
        finally:
            streams.finish()
    except KeyboardInterrupt:  # before a command began, or after it ended
        sys.stderr.write("Interrupted.\n")
        sys.exit(EXIT_INTERRUPTED)
    except RestoreError as error:
        from restorecli import console  # imports rich's tables and bars, which --help does not need

        console.show_error(error)
        sys.exit(error.exit_code)
    finally:
        log.stop()
