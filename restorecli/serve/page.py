"""The page: one template, filled with what can be chosen; its styles and scripts are files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import resources
from typing import Any

from restorecli import __version__
from restorecli.report.parts import part, script_safe, templates
from restorecli.serve.settings import CHECK, Settings
from restorecli.weights import WeightEntry

CHECKING = ("Not sure", "Check", "Says what is wrong with a photograph, and what mends it.")
LABELS = {  # what is wrong with a photograph, what a result is called, what happens
    "derain": ("Rain", "Without rain", "Removes rain streaks."),
    "desnow": ("Snow", "Without snow", "Removes falling snow."),
    "dehaze": ("Haze", "Without haze", "Removes haze and fog."),
    "denoise": ("Noise", "Without noise", "Removes noise and grain."),
    "lowlight": ("Dark", "Brightened", "Brightens photographs taken in the dark."),
    "deblur": ("Shaken", "Without shake", "Sharpens photographs blurred by motion."),
    "defocus": ("Blurry", "In focus", "Sharpens photographs that are out of focus."),
}


def own_part(name: str) -> str:
    """Text of a file of this page."""
    return resources.files("restorecli.serve").joinpath("parts", name).read_text("utf-8")


PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "base.css": ("text/css", partial(part, "base.css")),
    "viewer.css": ("text/css", partial(part, "viewer.css")),
    "serve.css": ("text/css", partial(own_part, "serve.css")),
    "viewer.js": ("text/javascript", partial(part, "viewer.js")),
    "serve.js": ("text/javascript", partial(own_part, "serve.js")),
}


def page(settings: Settings, offers: Mapping[str, Sequence[WeightEntry]]) -> str:
    """The whole page; what it shows later comes from the server."""
    from markupsafe import Markup

    tasks = [
        _choice(CHECK, CHECKING, ()),
        *(_choice(task, LABELS[task], entries) for task, entries in offers.items()),
    ]
    limits = settings.limits
    choices = {"tasks": tasks, "fileBytes": limits.file_bytes, "photos": limits.photos}
    return (
        templates()
        .from_string(own_part("serve.html"))
        .render(
            choices=Markup(script_safe(choices)),
            tasks=tasks,
            folder=str(settings.folder),
            version=__version__,
            most_mb=f"{limits.file_bytes / 1e6:,.0f}",
        )
    )


def _choice(
    task: str, words: tuple[str, str, str], entries: Sequence[WeightEntry]
) -> dict[str, Any]:
    label, result, what = words
    models = [_network(entry) for entry in entries]
    return {"id": task, "label": label, "result": result, "help": what, "models": models}


def _network(entry: WeightEntry) -> dict[str, Any]:
    return {"id": entry.id, "experimental": entry.experimental}
