"""Defaults of one's own: what is not typed is that of variables, of ``restore.toml``, or built in.

``restore.toml`` has the names of options as keys, for all commands or in a table for one::

    device = "cuda"
    [metrics]
    protocol = "rain"

Nothing is read before an option that was not typed is looked up, so help does not depend on it.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from restorecli.commands.help import CLUSTER, FILES, MACHINE, QUALITY, SCORES, TOLD, is_group
from restorecli.errors import UsageError
from restorecli.machine import folders

SETTABLE = (FILES, QUALITY, MACHINE, CLUSTER, SCORES, TOLD)  # not: which pictures, and what is lost
CONFIG_VARIABLE = "RESTORE_CONFIG"
FILE_NAME = "restore.toml"
LARGEST_BYTES = 2**20
BUILT_IN = "built in"
LISTED = "`restore config show` lists what can be set."
WORDS = {"1": True, "true": True, "yes": True, "on": True,
         "0": False, "false": False, "no": False, "off": False}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option that may be set in advance."""

    parameter: str  # by which the code knows it
    key: str  # its name without dashes in front, as a file has it
    kind: Any  # a type, or a Literal
    many: bool
    least: float | None
    most: float | None
    default: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value and where it comes from."""

    value: Any
    origin: str


def options_of(command: Any) -> dict[str, Option]:
    """What may be set in advance of a command of Typer, by the name of the parameter."""
    if is_group(command) or command.callback is None:
        return {}
    signature = inspect.signature(command.callback, eval_str=True)
    return {
        param.name: option
        for param in command.params
        if getattr(param, "rich_help_panel", None) in SETTABLE
        and (option := _option(param, signature.parameters.get(param.name)))
    }


def _option(param: Any, declared: inspect.Parameter | None) -> Option | None:
    long = [name for name in param.opts if name.startswith("--")]
    if declared is None or not long or param.hidden:
        return None
    kind, info = typing.get_args(declared.annotation)[:2]
    kinds = [part for part in typing.get_args(kind) if part is not type(None)]
    if type(None) in typing.get_args(kind):
        kind = kinds[0]
    many = typing.get_origin(kind) is list
    return Option(
        parameter=param.name,
        key=long[0].removeprefix("--"),
        kind=typing.get_args(kind)[0] if many else kind,
        many=many,
        least=info.min,
        most=info.max,
        default=param.default,
    )


class _UnfitError(Exception):
    """A value that an option cannot have; the message says what was expected."""


def fitted(option: Option, value: Any) -> Any:
    """``value``, a variable's text or out of TOML, as the option has it; else ``_UnfitError``."""
    if option.many:
        return [_fitted(option, one) for one in (value if isinstance(value, list) else [value])]
    return _fitted(option, value)


def _fitted(option: Option, value: Any) -> Any:
    kind = option.kind
    if typing.get_origin(kind) is Literal:
        if str(value) in typing.get_args(kind):
            return str(value)
        raise _UnfitError(f"one of {', '.join(typing.get_args(kind))}")
    if kind is bool:
        found = WORDS.get(value.lower()) if isinstance(value, str) else value
        if isinstance(found, bool):
            return found
        raise _UnfitError("true or false")
    if kind in (int, float):
        return _number(option, value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _UnfitError("a text")
    return str(value)


def _number(option: Option, value: Any) -> float:
    try:
        if isinstance(value, bool) or (option.kind is int and isinstance(value, float)):
            raise ValueError
        number = option.kind(value)
    except (TypeError, ValueError):
        raise _UnfitError("a whole number" if option.kind is int else "a number") from None
    if option.least is not None and not number >= option.least:
        raise _UnfitError(f"a number from {option.least}")
    if option.most is not None and not number <= option.most:
        raise _UnfitError(f"a number up to {option.most}")
    return typing.cast("float", number)


class Settings:
    """All that was set in advance, for the commands below ``root``."""

    def __init__(self, root: Any) -> None:
        self.options = dict(_walk(root, ()))
        self.file = settings_path()
        self.table = read_settings(self.file) if self.file else {}
        self._check(self.table, ())

    def of(self, path: tuple[str, ...], parameter: str) -> Setting | None:
        """What was set for a parameter of the command ``path``, if anything."""
        option = self.options.get(path, {}).get(parameter)
        if option is None:
            return None
        for where, value, origin in self._candidates(path, option.key):
            try:
                return Setting(value=fitted(option, value), origin=origin)
            except _UnfitError:
                alike = [o for of in self.options.values() for o in of.values()]
                _fit_any(
                    [option] if where else [o for o in alike if o.key == option.key], value, origin
                )
        return None

    def effective(self, path: tuple[str, ...]) -> dict[str, Setting]:
        """Each option of the command ``path`` with its value, if it is not typed."""
        return {
            option.key: self.of(path, name) or Setting(value=option.default, origin=BUILT_IN)
            for name, option in self.options[path].items()
        }

    def _candidates(
        self, path: tuple[str, ...], key: str
    ) -> Iterator[tuple[tuple[str, ...], Any, str]]:
        """Values by rank: for which command (none: for all), the value, where it was found."""
        for where in (path, ()):
            variable = variable_of(key, where)
            if value := os.environ.get(variable):
                yield where, value, variable
        for where in (path, ()):
            table = self.table
            for name in where:
                table = table.get(name, {})
            if key in table:
                suffix = f" [{'.'.join(where)}]" if where else ""
                yield where, table[key], f"{self.file}{suffix}"

    def _check(self, table: Mapping[str, Any], path: tuple[str, ...]) -> None:
        """Raise ``UsageError`` for what in the file is no setting, or has an unfit value."""
        depth = len(path)
        below = {p[depth] for p in self.options if p[:depth] == path and len(p) > depth}
        options = [
            o for p, of in self.options.items() if p == path or not path for o in of.values()
        ]
        for key, value in table.items():
            named = [option for option in options if option.key == key]
            if key in below and isinstance(value, dict):
                self._check(value, (*path, key))
            elif not named or isinstance(value, dict):
                where = f" [{'.'.join(path)}]" if path else ""
                known = [*(option.key for option in options), *below]
                raise UsageError(
                    f"{self.file}{where}: there is no setting {key!r}.",
                    hint=_meant(key, known, below),
                )
            else:
                _fit_any(named, value, str(self.file))


def _meant(key: str, known: Sequence[str], commands: set[str]) -> str:
    if key in commands:
        return f"A command has a table: [{key}]."
    near = difflib.get_close_matches(key, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else LISTED


def _fit_any(options: Sequence[Option], value: Any, origin: str) -> Any:
    """``value`` as the first of ``options`` that takes it has it; ``UsageError`` if none does."""
    for option in options:
        with contextlib.suppress(_UnfitError):
            return fitted(option, value)
    try:
        return fitted(options[0], value)
    except _UnfitError as error:
        raise UsageError(
            f"{origin}: {options[0].key} = {value!r} does not fit: "
            f"--{options[0].key} takes {error}.",
            hint="Mend it, or leave it out.",
        ) from None


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if is_group(command):
        for name, below in command.commands.items():
            yield from _walk(below, (*path, name))
    else:
        yield path, options_of(command)


def variable_of(key: str, path: tuple[str, ...] = ()) -> str:
    """The environment variable of an option, for one command or for all."""
    return "_".join(("restore", *path, key)).replace("-", "_").upper()


def settings_path() -> Path | None:
    """The file of settings; it need not exist. ``None`` where there is no place for one."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named == os.devnull:
        return None
    if named:
        path = Path(named)
        if os.path.isdir(path):  # noqa: PTH112 (also where a folder above is closed)
            return path / FILE_NAME
        if not os.path.exists(path):  # noqa: PTH110
            raise UsageError(
                f"{CONFIG_VARIABLE}: there is no file {named}.",
                hint="It names a file of settings, or the folder of a restore.toml.",
            )
        return path
    folder = folders.configuration_folder()
    return folder / FILE_NAME if folder else None


def read_settings(path: Path) -> dict[str, Any]:
    """The tables of a file; empty if it does not exist. Raises ``UsageError`` if unreadable."""
    from restorecli.files.regular import read_regular

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        return tomllib.loads(read_regular(path, most_bytes=LARGEST_BYTES).decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError as error:
        if not _can_be_seen(path):  # somebody else's folder, such as a HOME that was taken along
            return {}
        raise _unreadable(path, error) from error
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are the latter
        raise _unreadable(path, error) from error


def _can_be_seen(path: Path) -> bool:
    try:
        path.lstat()
    except PermissionError:
        return False
    return True


def _unreadable(path: Path, error: Exception) -> UsageError:
    reason = getattr(error, "strerror", None) or error
    return UsageError(
        f"Cannot read the settings of {path}: {reason}.",
        hint=f"Mend it, or do without: {CONFIG_VARIABLE}={os.devnull}",
    )


class Defaults:
    """What Typer asks for defaults: of a group what is below, of a command its values."""

    def __init__(
        self, command: Any, load: Callable[[], Settings], path: tuple[str, ...] = ()
    ) -> None:
        self._command, self._load, self._path = command, load, path

    @classmethod
    def below(cls, root: Any) -> Defaults:
        """For all commands of ``root``; the file is read when the first value is wanted."""
        return cls(root, cache(lambda: Settings(root)))

    def setting(self, parameter: str) -> Setting | None:
        """What was set for a parameter, and where."""
        return self._load().of(self._path, parameter)

    def get(self, name: str, default: Any = None) -> Any:
        """As a dictionary does."""
        if is_group(self._command):
            below = self._command.commands.get(name)
            return default if below is None else Defaults(below, self._load, (*self._path, name))
        found = self.setting(name)
        return default if found is None else found.value
