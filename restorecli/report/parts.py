"""The pieces that pages are made of: their templates, styles and scripts."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from restorecli.report.words import kind_label, number, printable, score_label

if TYPE_CHECKING:
    from jinja2 import Environment


def part(name: str) -> str:
    """Text of a file beside the pages, such as ``viewer.js``."""
    return resources.files("restorecli.report").joinpath("page", name).read_text("utf-8")


@cache
def templates() -> Environment:
    """Templates by the names of their files; what is put into one is escaped, except `Markup`."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    found = Environment(
        loader=FunctionLoader(part),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {
        "printable": printable,
        "number": number,
        "score_label": score_label,
        "kind_label": kind_label,
    }
    return found


def script_safe(data: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
