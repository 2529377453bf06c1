"""``restore doctor``: what this machine offers."""

from __future__ import annotations

import platform
from typing import Annotated

import typer

from restorecli import __version__
from restorecli.commands.help import MACHINE, TOLD, guided

PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "llvmlite",
    "huggingface-hub",
    "typer",
    "rich",
)
HUB_TIMEOUT_S = 3.0


@guided(
    ("restore doctor", "Shows what there is, and whether models can be downloaded."),
    ("restore doctor --offline", "Shows it without a question to the network."),
    ("restore doctor --json > machine.json", "Keeps it, for a report of a fault."),
    codes=(0, 2, 130),
)
def doctor(
    as_json: Annotated[
        bool,
        typer.Option("--json", rich_help_panel=TOLD, help="Print JSON on standard output."),
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", rich_help_panel=MACHINE, help="Do not ask the Hub.")
    ] = False,
) -> None:
    """Show versions, devices, memory, codecs, caches and whether the Hub answers."""
    from restorecli import console

    findings = {
        **_versions(),
        **_devices(),
        **_memory(),
        **_codecs(),
        **_models(),
        "hub": "not asked" if offline else _hub(),
    }
    if as_json:
        console.show_json(findings)
        return
    console.show_table("restore doctor", ("what", "found"), list(findings.items()))


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"restorecli": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return {**found, "system": platform.platform()}


def _devices() -> dict[str, str]:
    import torch

    from restorecli.engine.devices import multiplies_bfloat16
    from restorecli.machine.cores import default_threads

    capability = torch.backends.cpu.get_cpu_capability()
    half = "bfloat16 in hardware" if multiplies_bfloat16(torch.device("cpu")) else "no bfloat16"
    threads = default_threads(torch.get_num_threads())
    found = {"cpu": f"{threads} threads, {capability}, {half}"}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if not torch.cuda.is_available():
        found["cuda"] = "none"
    found["mps"] = "available" if torch.backends.mps.is_available() else "none"
    return found


def _memory() -> dict[str, str]:
    import torch

    from restorecli.engine.devices import free_bytes, total_bytes

    free, total = (of(torch.device("cpu")) / 2**30 for of in (free_bytes, total_bytes))
    return {"memory": f"{free:.1f} of {total:.1f} GiB free"}


def _codecs() -> dict[str, str]:
    from PIL import features

    names = ("jpg", "zlib", "webp", "avif")
    have = [name for name in names if features.check(name)]
    return {"codecs": ", ".join(have)}


def _models() -> dict[str, str]:
    from huggingface_hub.constants import HF_HUB_CACHE

    from restorecli.weights import registry
    from restorecli.weights.places import cache_folder, has_home

    ready = [entry.id for entry in registry().values() if entry.is_installed]
    return {
        "installed networks": ", ".join(ready) or "none",
        "their cache": str(cache_folder()) if has_home() else "none: this user has no home folder",
        "hub cache": str(HF_HUB_CACHE),
    }


def _hub() -> str:
    from http.client import HTTPException
    from urllib.request import Request, urlopen

    from huggingface_hub.constants import ENDPOINT

    from restorecli.files.addresses import redacted

    shown = redacted(ENDPOINT)
    if not ENDPOINT.startswith(("https://", "http://")):
        return f"{shown}: not a web address"
    try:
        with urlopen(Request(ENDPOINT, method="HEAD"), timeout=HUB_TIMEOUT_S):
            return f"{shown} answers"
    except (OSError, ValueError, HTTPException) as error:
        reason = redacted(str(error))
        return f"{shown} does not answer ({reason}); bundled networks work without it"
