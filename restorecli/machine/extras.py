"""How what is optional is added to this installation, however that was made."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import sys
from pathlib import Path

IN_EXTRA = re.compile(r"""extra\s*==\s*["']([\w.-]+)["']""")


def install_hint(extra: str) -> str:
    """A sentence with the command that adds the packages of ``extra``, such as ``heic``.

    It names the packages themselves: that works in an environment made of a clone or of a wheel.
    """
    packages = packages_of(extra) or [f"{Path(__file__).parents[2]}[{extra}]"]
    return f"Install it: {installer()} {' '.join(map(shlex.quote, packages))}"


def packages_of(extra: str) -> list[str]:
    """The requirements that the metadata of this installation lists for ``extra``."""
    try:
        required = importlib.metadata.requires("restorecli") or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return []
    found = []
    for line in required:
        name, _, marker = (part.strip() for part in line.partition(";"))
        if (of := IN_EXTRA.search(marker)) and of[1] == extra:
            found.append(name)
    return found


def installer() -> str:
    """The command that adds packages to the environment that runs: of pip, pipx or uv."""
    prefix = Path(sys.prefix)
    if (prefix / "pipx_metadata.json").is_file():
        return f"pipx inject {prefix.name}"
    if (prefix / "uv-receipt.toml").is_file():  # where there is no pip
        return f"uv pip install --python {shlex.quote(str(prefix))}"
    if os.environ.get("VIRTUAL_ENV") == sys.prefix:
        return "pip install"
    return f"{shlex.quote(sys.executable)} -m pip install"
