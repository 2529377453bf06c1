"""``restore config …``: defaults of one's own, and where each comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from restorecli.commands.help import TOLD, App, Group, guided
from restorecli.commands.restore import TASKS
from restorecli.commands.settings import Setting, Settings, settings_path
from restorecli.errors import UsageError

app = App(cls=Group, no_args_is_help=True, help="Show what is set in advance, and where.")
NOTHING = "–"
NO_PLACE = "There is no place for settings: this user has no home folder."

Command = Annotated[
    list[str] | None,
    typer.Argument(metavar="COMMAND", help="Name a command, such as derain. Default: all."),
]
Json = Annotated[
    bool, typer.Option("--json", rich_help_panel=TOLD, help="Print JSON on standard output.")
]


@app.command("show")
@guided(
    ("restore config show derain", "Prints each option of a command, its value and its origin."),
    ("RESTORE_DEVICE=cpu restore config show bench", "Shows what a variable changes."),
    ("restore config show --json", "Prints it of all commands, for a program to read."),
    codes=(0, 2),
)
def show(context: typer.Context, command: Command = None, as_json: Json = False) -> None:
    """Show each option's effective value, and where it comes from."""
    from restorecli import console

    settings = Settings(context.find_root().command)
    chosen = _chosen(settings, tuple(command or ()))
    found = {path: settings.effective(path) for path in chosen}
    if as_json:
        data = {
            " ".join(path): {key: asdict(setting) for key, setting in each.items()}
            for path, each in found.items()
            if each
        }
        console.show_json({"file": str(settings.file or ""), "settings": data})
        return
    console.show_line(_told_of_file(settings))
    rows = _rows(found)
    columns = ("option", "value", "comes from", "of")
    console.show_table("", columns if len(chosen) > 1 else columns[:3], rows)


def _chosen(settings: Settings, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Paths of the commands that are named, or of those below; ``UsageError`` if none is."""
    found = [each for each in settings.options if each[: len(path)] == path]
    if not found:
        raise UsageError(f"There is no command {' '.join(path)!r}.", hint="See `restore --help`.")
    return found


def _told_of_file(settings: Settings) -> str:
    if settings.file is None:
        return NO_PLACE
    return f"{settings.file}{'' if settings.file.is_file() else ' (there is none yet)'}"


def _rows(found: dict[tuple[str, ...], dict[str, Setting]]) -> list[list[str]]:
    """Option, value, origin, and the commands that have them all in common."""
    commands: dict[tuple[str, str, str], list[str]] = {}
    for path, settings in found.items():
        for key, setting in settings.items():
            row = (f"--{key}", _shown(setting.value), setting.origin)
            commands.setdefault(row, []).append(" ".join(path))
    rows = sorted(commands.items(), key=lambda row: row[0][0])
    if len(found) == 1:
        return [list(row) for row, _ in rows]
    return [[*row, _names(names)] for row, names in rows]


def _names(commands: Sequence[str]) -> str:
    """The commands, those of the tasks in two words."""
    others = [name for name in commands if name not in TASKS]
    if len(commands) - len(others) < len(TASKS):
        return ", ".join(commands)
    return ", ".join(["every task", *others])


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return NOTHING if value in (None, "") else str(value)


@app.command("path")
@guided(
    ("restore config path", "Prints where the file is, or would be."),
    ("$EDITOR $(restore config path)", "Opens it in an editor."),
    ("RESTORE_CONFIG=lab.toml restore config path", "Prints lab.toml, which is read instead."),
    codes=(0, 2),
)
def path() -> None:
    """Print where the file of settings is, or would be."""
    from restorecli import console

    found = settings_path()
    if found is None:
        raise UsageError(NO_PLACE, hint="Name a file in RESTORE_CONFIG.")
    console.show_line(str(found))
