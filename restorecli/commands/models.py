"""``restore models list`` and ``restore models show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from restorecli.weights import WeightEntry

app = typer.Typer(no_args_is_help=True, help="The networks and their checkpoints.")

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """Every known checkpoint: task, network, size, licence, score."""
    from restorecli import console
    from restorecli.weights import registry

    entries = list(registry().values())
    if as_json:
        console.show_json({"models": [entry.model_dump(mode="json") for entry in entries]})
        return
    console.show_list([(entry.id, _details(entry)) for entry in entries])


def _details(entry: WeightEntry) -> str:
    """Task, network, size, licence, where it is, and a score with its protocol."""
    tasks = [f"{task} (default)" if task in entry.default_for else task for task in entry.tasks]
    size = f"{entry.size_bytes / 1e6:.1f} MB" if entry.size_bytes else "size unknown"
    where = "bundled" if entry.is_bundled else "bring the file"
    parts = [", ".join(tasks), entry.network, size, where, f"licence: {entry.licence}"]
    return " · ".join([*parts, *_scores(entry)[:1]])


def _scores(entry: WeightEntry) -> list[str]:
    """Measured scores first, then published ones, each with its protocol."""
    return [
        f"{s.dataset} {s.input_psnr_db:.2f} → {s.psnr_db:.2f} dB, {s.protocol}"
        for s in entry.measured
    ] + [f"{s.dataset} {s.psnr_db:.2f} dB as published, {s.protocol}" for s in entry.published]


@app.command("show")
def show_model(
    model: Annotated[str, typer.Argument(help="Id from `restore models list`.")],
    as_json: Json = False,
) -> None:
    """Everything known of one checkpoint."""
    from restorecli import console
    from restorecli.weights import registry

    entry = registry()[model]
    data = entry.model_dump(mode="json")
    if as_json:
        console.show_json(data)
        return
    rows = [(key, _cell(value)) for key, value in data.items() if value not in (None, "", [], {})]
    if entry.url:
        rows.append(("url", entry.url))
    console.show_table(entry.id, ("key", "value"), rows)


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key} = {part}" for key, part in value.items())
    if isinstance(value, list):
        return "\n".join(_cell(part).replace("\n", ", ") for part in value)
    return str(value)
