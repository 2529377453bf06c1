"""``restore models …``: which checkpoints there are, and how they come to this machine."""

from __future__ import annotations

import difflib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restorecli.commands import completion
from restorecli.commands.help import MACHINE, QUALITY, TOLD, WHAT, App, Group, guided

if TYPE_CHECKING:
    from restorecli.conversion.convert import Converted
    from restorecli.weights import ChosenModel, WeightEntry

SCORE_COLUMNS = 19
LEGEND = (
    "*: the default of its task   !: experimental   ?: not known",
    "download: `restore models download ID`   bring it: `restore models import FILE`",
    "`restore models show ID` prints all that is known, licence and scores too.",
)
app = App(cls=Group, no_args_is_help=True, help="List, download, check or convert networks.")

Json = Annotated[
    bool, typer.Option("--json", rich_help_panel=TOLD, help="Print JSON on standard output.")
]
Id = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        autocompletion=completion.models,
        help="Name a network of `restore models list`.",
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", rich_help_panel=MACHINE, help="Never download anything.")
]


@app.command("list")
@guided(
    ("restore models list", "Prints every known network."),
    ("restore models list --task denoise --installed", "Prints those that can be used at once."),
    ("restore models list --json", "Prints all that is known of them, for a program to read."),
    codes=(0, 2, 4),
)
def list_models(
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="TASK",
            autocompletion=completion.tasks,
            rich_help_panel=WHAT,
            help="List networks of this task only.",
        ),
    ] = None,
    installed: Annotated[
        bool,
        typer.Option(
            "--installed", rich_help_panel=WHAT, help="List what is on this machine only."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """List the known networks: task, size, whether they are here, and a score."""
    from restorecli import console
    from restorecli.weights import registry

    if task is not None:
        check_task(task)
    entries = [
        entry
        for entry in registry().values()
        if (task is None or task in entry.tasks) and (entry.is_installed or not installed)
    ]
    if as_json:
        console.show_json({"models": [_data(entry) for entry in entries]})
        return
    headings = ("id", "task", "size", "state", "score")
    console.show_columns(headings, [_columns(entry) for entry in entries], right={2})
    for line in LEGEND:
        console.show_note(line)


def check_task(task: str) -> None:
    """Raise ``UsageError`` for what no network does."""
    from restorecli.errors import UsageError
    from restorecli.weights import SPECTRAL_TASKS, TASKS

    tasks = (*TASKS, *SPECTRAL_TASKS)
    if task not in tasks:
        near = difflib.get_close_matches(task.lower(), tasks, n=1)
        meant = f"Did you mean {near[0]}?" if near else ""
        raise UsageError(f"--task {task!r} is none of {', '.join(tasks)}.", hint=meant)


def _columns(entry: WeightEntry) -> list[str]:
    """Id, task, size, state and one score: at most 80 characters in all."""
    task = ",".join(entry.tasks)
    if entry.default_for:
        task += "*"
    if entry.experimental:
        task += "!"
    from restorecli.console import bytes_text

    size = bytes_text(entry.size_bytes) if entry.size_bytes else "?"
    state = _where(entry).partition(",")
    bring = "bring it" if state[2] else "download"
    return [entry.id, task, size, state[0] if entry.is_installed else bring, _score(entry)]


def _score(entry: WeightEntry) -> str:
    """The first score with as much of its data set's name as there is room for."""
    found = [(s.psnr_db, s.dataset) for s in (*entry.measured, *entry.published)]
    found += [(s.psnr_db, s.dataset) for s in entry.spectra]
    if not found:
        return ""
    score, name = f"{found[0][0]:.2f} dB", found[0][1].partition(",")[0]
    if len(f"{score} {name}") > SCORE_COLUMNS:
        name = name.split()[0]
    return score if name.isdigit() else f"{score} {name}"[:SCORE_COLUMNS]


def _data(entry: WeightEntry) -> dict[str, object]:
    return {**entry.model_dump(mode="json"), "installed": entry.is_installed}


def _details(entry: WeightEntry) -> str:
    """Task, network, size, licence, where it is, and a score with its protocol."""
    tasks = [f"{task} (default)" if task in entry.default_for else task for task in entry.tasks]
    size = f"{entry.size_bytes / 1e6:.1f} MB" if entry.size_bytes else "size unknown"
    parts = [", ".join(tasks), entry.network, size, _where(entry), f"licence: {entry.licence}"]
    if entry.experimental:
        parts.append(f"experimental: {entry.experimental}")
    return " · ".join([*parts, *_scores(entry)[:1]])


def _where(entry: WeightEntry) -> str:
    if entry.is_bundled:
        return "bundled"
    if entry.is_installed:
        return "installed"
    return "not installed" if entry.url else "not installed, bring the file"


def _scores(entry: WeightEntry) -> list[str]:
    """Measured scores first, then published ones, each with its protocol."""
    return (
        [
            f"{s.dataset} {s.input_psnr_db:.2f} → {s.psnr_db:.2f} dB, {s.protocol}"
            for s in entry.measured
        ]
        + [
            f"{s.dataset} {s.psnr_db:.2f} dB{'' if s.command else ' as published'}, {s.protocol}"
            for s in entry.spectra
        ]
        + [f"{s.dataset} {s.psnr_db:.2f} dB as published, {s.protocol}" for s in entry.published]
    )


@app.command("show")
@guided(
    (
        "restore models show hint-derain-packed",
        "Prints where it comes from, its licence, hash and scores.",
    ),
    ("restore models show restormer-derain", "Also shows what is not installed yet."),
    ("restore models show hint-derain-packed --json", "Prints it for a program to read."),
    codes=(0, 2, 4),
)
def show_model(model: Id, as_json: Json = False) -> None:
    """Show all that is known of one network."""
    from restorecli import console
    from restorecli.weights import registry

    entry = registry()[model]
    data = _data(entry)
    if as_json:
        console.show_json(data)
        return
    rows = [(key, _cell(value)) for key, value in data.items() if value not in (None, "", [], {})]
    if entry.url:
        rows.append(("url", entry.url))
    if entry.is_installed:
        rows.append(("path", str(entry.path)))
    console.show_table(entry.id, ("key", "value"), rows)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "\n".join(f"{key} = {part}" for key, part in value.items())
    if isinstance(value, list):
        return "\n".join(_cell(part).replace("\n", ", ") for part in value)
    return str(value)


@app.command("path")
@guided(
    ("restore models path hint-derain-packed", "Prints the path of the file of its tensors."),
    ("sha256sum $(restore models path hint-derain-packed)", "Hashes that file."),
    (
        "cp $(restore models path restormer-derain) /media/disk/",
        "Takes a downloaded network to another computer.",
    ),
    codes=(0, 2, 4),
)
def path_of_model(model: Id) -> None:
    """Print where the tensors of an installed network lie."""
    from restorecli import console
    from restorecli.errors import WeightsError
    from restorecli.weights import registry

    entry = registry()[model]
    if not entry.is_installed:
        from restorecli.weights.checkpoint import how_to_get

        raise WeightsError(f"{entry.id} is not installed.", hint=how_to_get(entry))
    console.show_line(str(entry.path))


@app.command("verify")
@guided(
    ("restore models verify", "Checks all that are installed."),
    ("restore models verify hint-derain-packed", "Checks one."),
    (
        "restore models verify && restore derain photo.jpg",
        "Restores only if all are as they were installed.",
    ),
    codes=(0, 2, 4),
)
def verify_models(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID...",
            autocompletion=completion.models,
            help="Name networks. Default: all installed.",
        ),
    ] = None,
) -> None:
    """Hash installed networks again, and load them."""
    from restorecli import console
    from restorecli.errors import WeightsError
    from restorecli.weights import registry
    from restorecli.weights.checkpoint import load_network

    known = registry()
    entries = [known[model] for model in models or known if models or known[model].is_installed]
    failures = []
    for entry in entries:
        try:
            load_network(entry, None)
            console.show_line(f"{entry.id}: as it was installed")
        except WeightsError as error:
            failures.append(entry.id)
            console.show_error(error)
    if failures:
        raise WeightsError(f"{len(failures)} of {len(entries)} failed, first {failures[0]}.")


@app.command("remove")
@guided(
    ("restore models remove restormer-derain", "Frees the disk of a downloaded network."),
    ("restore models remove mine", "Takes a network of your own from the list."),
    ("restore models list", "Shows what is installed."),
    codes=(0, 2, 4),
)
def remove_model(model: Id) -> None:
    """Remove an installed network; one of your own from the list, too."""
    from restorecli import console
    from restorecli.weights import registry
    from restorecli.weights.install import remove

    discarded, recorded = remove(registry()[model])
    if recorded:
        console.show_line(f"{model} was removed from the cache and from your list.")
    else:
        console.show_line(f"{model} was removed." if discarded else f"{model} is not installed.")


@app.command("download")
@guided(
    (
        "restore models download restormer-derain",
        "Gets one network, and says its size and licence first.",
    ),
    ("restore models download restormer-derain restormer-deblur", "Gets two."),
    ("restore derain photo.jpg --effort best", "Gets the best network when it is needed."),
    codes=(0, 2, 4, 130),
)
def download_models(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="ID...",
            autocompletion=completion.models,
            help="Name networks of `restore models list`.",
        ),
    ],
    offline: Offline = False,
) -> None:
    """Download published networks, check size and hash, and install them."""
    from restorecli import console
    from restorecli.weights import registry

    known = registry()
    for entry in [known[model] for model in models]:  # an unknown id is found before any work
        ready = get(entry, offline=offline)
        console.show_line(f"{ready.id}: {ready.path}")


def get(entry: WeightEntry, *, offline: bool) -> WeightEntry:
    """Make sure that ``entry`` is installed; say what a download costs before it begins."""
    from restorecli import console
    from restorecli.weights import size_text

    if entry.is_installed:
        return entry
    from restorecli.weights.download import download

    if entry.url and not offline:
        console.show_note(
            f"Downloading {entry.id}{size_text(entry)} from {entry.url}, licence: {entry.licence}."
        )
    with console.TransferDisplay(entry.id) as display:
        return download(entry, offline=offline, on_progress=display.advance)


def fetch(model: ChosenModel, *, offline: bool, dry_run: bool) -> ChosenModel:
    """Download the network of a run if it can be had and is not here yet, or only say so."""
    from restorecli import console
    from restorecli.weights import ChosenModel, size_text

    entry = model.entry
    if entry is None or model.file or entry.is_installed or not entry.url:
        return model
    if not dry_run:
        return ChosenModel(entry=get(entry, offline=offline))
    console.show_note(f"would download {entry.id}{size_text(entry)} from {entry.url}")
    return model


@app.command("import")
@guided(
    (
        "restore models import net.pth --task derain --id mine",
        "Reads a checkpoint safely, and names it.",
    ),
    ("restore models import hf://OWNER/NAME/net.safetensors@REVISION", "Gets it from the Hub."),
    ("restore derain photo.jpg --model mine", "Uses it."),
    codes=(0, 2, 4, 130),
)
def import_model(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Give a file, or an address hf://OWNER/NAME/FILE@REVISION."
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="TASK",
            autocompletion=completion.tasks,
            rich_help_panel=WHAT,
            help="Say what it was trained for.",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            metavar="NAME",
            rich_help_panel=WHAT,
            help="Say which network it fits, such as restormer or hint.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", rich_help_panel=WHAT, help="Name it, for --model."),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence",
            metavar="TEXT",
            rich_help_panel=WHAT,
            help="Record the licence that its authors give.",
        ),
    ] = None,
    offline: Offline = False,
) -> None:
    """Check a network of your own, and add it to the list for --model."""
    from restorecli import console
    from restorecli.weights.install import import_file

    if task is not None:
        check_task(task)
    how = {"task": task, "network": network, "entry_id": model, "licence": licence}
    if file.startswith("hf://"):
        from restorecli.weights.download import import_from_hub

        with console.TransferDisplay(file) as display:
            entry = import_from_hub(file, offline=offline, on_progress=display.advance, **how)
    else:
        entry = import_file(Path(file), **how)
    console.show_line(f"{entry.id}: {_details(entry)}")
    command = "spectral MEASUREMENT --mask MASK" if "cassi" in entry.tasks else None
    command = command or f"{entry.tasks[0]} PICTURE"
    console.show_note(f"Use it: restore {command} --model {entry.id}")


@app.command("convert")
@guided(
    ("restore models convert restormer-derain", "Makes a cheaper network of an installed one."),
    (
        "restore models convert restormer-derain --ratio 0.75 --id small",
        "Leaves out more, and names the result.",
    ),
    (
        "restore models convert restormer-derain --calibrate clean/ --finetune 10",
        "Fits it to pictures of your own, and trains for 10 minutes.",
    ),
    codes=(0, 2, 3, 4, 130),
)
def convert_model(
    model: Id,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="NETWORK", rich_help_panel=WHAT, help="Make this of it: glmha."
        ),
    ] = "glmha",
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            metavar="text|table",
            rich_help_panel=QUALITY,
            help="Follow the text or the table of the paper.",
        ),
    ] = "text",
    ratio: Annotated[
        float,
        typer.Option(
            "--ratio",
            metavar="X",
            rich_help_panel=QUALITY,
            help="Leave out this share of keys and values.",
        ),
    ] = 0.5,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            metavar="DIR",
            rich_help_panel=QUALITY,
            help="Fit it to the clean pictures there. Default: four that ship.",
        ),
    ] = None,
    finetune: Annotated[
        float,
        typer.Option(
            "--finetune",
            metavar="MINUTES",
            rich_help_panel=QUALITY,
            help="Train on for so many minutes.",
        ),
    ] = 0.0,
    entry_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", rich_help_panel=WHAT, help="Name the result."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a cheaper GLMHA-Restormer of an installed Restormer."""
    from restorecli import console
    from restorecli.errors import UsageError

    if to != "glmha":
        raise UsageError(f"--to {to!r} is not possible.", hint="Only --to glmha is.")

    from restorecli.conversion.convert import convert  # imports torch

    made = convert(
        model,
        preset=preset,
        ratio=ratio,
        calibrate=calibrate,
        finetune_minutes=finetune,
        entry_id=entry_id,
        say=console.show_note,
    )
    _show_converted(made, as_json=as_json)


def _show_converted(made: Converted, *, as_json: bool) -> None:
    from restorecli import console

    if as_json:
        scores = [asdict(step) for step in made.scores]
        console.show_json({"id": made.entry.id, "scores": scores, "elapsed_s": made.elapsed_s})
        return
    console.show_table(
        f"{made.entry.id}, held-out crops, {made.elapsed_s:.0f} s",
        ("step", "PSNR to teacher, dB", "PSNR to clean, dB", "parameters"),
        [
            (s.stage, _db(s.against_teacher), _db(s.against_clean), f"{s.parameters:,}")
            for s in made.scores
        ],
    )
    console.show_note(f"Use it: restore {made.entry.tasks[0]} PICTURE --model {made.entry.id}")


def _db(psnr: float | None) -> str:
    return "equal" if psnr is None else f"{psnr:.2f}"
