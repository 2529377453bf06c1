"""Commands with many options: a frozen dataclass declares each once, and Typer reads it there."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache


@cache
def _signature(fields: type) -> inspect.Signature:
    """Read once, where several commands have the same options."""
    return inspect.signature(fields, eval_str=True)


def asks(fields: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: the command has the fields of the dataclass ``fields`` as its options.

    Names, types, defaults and help texts come from there; the command gets them as keywords.
    """

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        command.__signature__ = _signature(fields)  # type: ignore[attr-defined]
        return command

    return with_options
