"""What ``--help`` prints: options in groups, examples, exit codes; plain, within 80 columns.

An option names its group where it is declared: ``typer.Option(…, rich_help_panel=MACHINE)``. A
command gives its examples and exit codes by `guided`. No rich here: it would double the time to the
first line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from restorecli.errors import EXIT_CODES, RestoreError, UsageError

TyperUsageError: Any = typer.BadParameter.__mro__[1]  # what Typer raises of what was typed
WHAT = "What and where to"
FILES = "Files that are written"
QUALITY = "Network and quality"
MACHINE = "Machine"
CLUSTER = "Cluster"
SCORES = "Scores"
TOLD = "What is told"
OTHER = "Other"
GROUPS = (WHAT, FILES, QUALITY, MACHINE, CLUSTER, SCORES, TOLD, OTHER)  # as they are printed

RESTORING = "Restore"
MEASURING = "Measure and look"
MANAGING = "Networks and this machine"
COMMANDS = "Commands"
COMMAND_GROUPS = (RESTORING, MEASURING, MANAGING, COMMANDS)

RIVALS = {  # parameters that say the same in other words: what is typed holds
    "model": {"weights", "effort"},
    "weights": {"model", "effort"},
    "effort": {"model", "weights"},
    "quiet": {"verbose"},
    "verbose": {"quiet"},
}
WHOLE = 1000  # characters of a sentence that is never cut
NAMES = 28  # columns of the widest names beside which a text begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """What the help of a command says beside its options."""

    examples: tuple[tuple[str, str], ...]  # what to type, and what it does
    codes: tuple[int, ...]  # exit codes that it can end with


Function = TypeVar("Function", bound=Callable[..., Any])


def guided(
    *examples: tuple[str, str], codes: Sequence[int] = (0, 2, 3, 130)
) -> Callable[[Function], Function]:
    """A decorator: the help of the command shows ``examples`` and explains its exit ``codes``."""

    def with_guide(command: Function) -> Function:
        command.guide = Guide(examples=examples, codes=tuple(codes))  # type: ignore[attr-defined]
        return command

    return with_guide


def guide_of(command: Any) -> Guide | None:
    """What `guided` said of the function behind a command of Typer."""
    return getattr(command.callback, "guide", None)


def is_group(command: Any) -> bool:
    """Whether it has commands below it."""
    return isinstance(command, TyperGroup)


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One option or argument, as help and documentation show it."""

    key: str  # its longest name without dashes
    names: str  # as typed, with the kind of its value
    text: str
    default: str
    group: str


def described(param: Any) -> Described | None:
    """``param`` of a command in words; ``None`` if it is hidden."""
    if param.hidden:
        return None
    group = getattr(param, "rich_help_panel", None)
    if param.param_type_name == "argument":
        names, group = _argument(param), group or WHAT
    else:
        names = ", ".join(sorted(param.opts, key=len))
        if not param.is_flag:
            names += f" {param.metavar or param.name.upper()}"
    return Described(
        key=max(param.opts, key=len).lstrip("-"),
        names=names,
        text=param.help or "",
        default=_default(param),
        group=group or OTHER,
    )


def _argument(param: Any) -> str:
    name = str(param.metavar or param.name.upper())
    return name if param.required else f"[{name}]"


def _default(param: Any) -> str:
    value = param.default
    if not getattr(param, "show_default", True) or value is None or isinstance(value, bool):
        return ""
    return "" if callable(value) or value in ((), []) else str(value)


def write_groups(params: Sequence[Any], formatter: Any) -> None:
    """All of ``params`` under the headings of their groups."""
    found = [one for param in params if (one := described(param))]
    order = [*GROUPS, *dict.fromkeys(one.group for one in found if one.group not in GROUPS)]
    for group in order:
        rows = [
            (one.names, f"{one.text} Default: {one.default}." if one.default else one.text)
            for one in found
            if one.group == group
        ]
        if rows:
            with formatter.section(group):
                formatter.write_dl(rows, col_max=NAMES)


def write_guide(guide: Guide, formatter: Any) -> None:
    """Examples, and what the exit codes mean."""
    with formatter.section("Examples"):
        for line, meaning in guide.examples:
            formatter.write(f"  {line}\n")
            with formatter.indentation():
                formatter.write_text(meaning)
    said = " · ".join(f"{code} {EXIT_CODES[code]}" for code in guide.codes)
    with formatter.section("Exit codes"):
        formatter.write_text(said)


class Command(TyperCommand):
    """A command whose help is in groups."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """``[OPTIONS] INPUT...``."""
        arguments = (p for p in self.get_params(ctx) if p.param_type_name == "argument")
        return [str(self.options_metavar), *map(_argument, arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Options by group, then examples and exit codes."""
        write_groups(self.get_params(ctx), formatter)
        if guide := guide_of(self):
            write_guide(guide, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What was typed; a setting steps back where a rival of it was typed."""
        _switch_off(self.get_params(ctx))
        try:
            rest = super().parse_args(ctx, args)
        except TyperUsageError as error:
            raise _in_a_sentence(error, ctx, self) from None
        typed = {name for name in ctx.params if _source(ctx, name) == "COMMANDLINE"}
        for param in self.params:
            name = param.name
            if _source(ctx, name) == "DEFAULT_MAP" and typed & RIVALS.get(name, set()):
                ctx.params[name] = param.default
        return list(rest)

    def invoke(self, ctx: Any) -> Any:
        """Run it; what is said of an option that was not typed says where it was set."""
        try:
            return super().invoke(ctx)
        except RestoreError as error:
            for param in self.params:
                if _source(ctx, param.name) != "DEFAULT_MAP":
                    continue
                key = max(param.opts, key=len)
                if re.search(rf"{key}\b(?!-)", str(error)):
                    origin = ctx.default_map.setting(param.name).origin
                    error.hint = f"{error.hint} {key} was set by {origin}.".strip()
            raise


def _in_a_sentence(error: Any, ctx: Any, command: Any) -> UsageError:
    """What Typer has against what was typed, as all else is said: a sentence and a hint."""
    text = error.format_message().replace("Value error, ", "").strip().rstrip(".")
    guide = guide_of(command)
    hint = f"`restore help {ctx.command_path.partition(' ')[2]}".rstrip() + "` explains it."
    if text.startswith("Missing") and guide:
        hint = f"For example: {guide.examples[0][0]}. {hint}"
    return UsageError(f"{ctx.command_path}: {text[0].lower()}{text[1:]}.", hint=hint)


def _switch_off(params: Sequence[Any]) -> None:
    """Let flags that nobody set be off: for one that is None Typer loads pydantic, for 0.1 s."""
    for param in params:
        if getattr(param, "is_flag", False) and param.default is None:
            param.default = False


def _source(ctx: Any, name: str) -> str | None:
    source = ctx.get_parameter_source(name)
    return source.name if source else None


class Group(TyperGroup):
    """Commands in groups, each with its whole sentence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What was typed."""
        _switch_off(self.get_params(ctx))
        try:
            return list(super().parse_args(ctx, args))
        except TyperUsageError as error:
            if args:
                raise _in_a_sentence(error, ctx, self) from None
            raise  # nothing was typed: that is help

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that ``args`` begins with; raises ``UsageError`` where there is none."""
        try:
            return super().resolve_command(ctx, args)
        except TyperUsageError as error:
            raise _in_a_sentence(error, ctx, self) from None

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The commands first: they are what is looked for."""
        self.format_commands(ctx, formatter)
        write_groups(self.get_params(ctx), formatter)
        if guide := guide_of(self):
            write_guide(guide, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Commands under the headings of their groups."""
        shown = [c for name in self.list_commands(ctx) if (c := self.get_command(ctx, name))]
        shown = [command for command in shown if not command.hidden]
        for group in dict.fromkeys((*COMMAND_GROUPS, *map(_panel, shown))):
            rows = [
                (str(one.name), one.get_short_help_str(limit=WHOLE))
                for one in shown
                if _panel(one) == group
            ]
            if rows:
                with formatter.section(group):
                    formatter.write_dl(rows)


def _panel(command: Any) -> str:
    return getattr(command, "rich_help_panel", None) or COMMANDS


class App(typer.Typer):
    """An app whose commands have the help of this module."""

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = Command, **settings: Any
    ) -> Callable[[Function], Function]:
        """As Typer's, with `Command`."""
        return super().command(name, cls=cls, **settings)
