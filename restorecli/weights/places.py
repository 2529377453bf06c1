"""Where checkpoints and the user's own registry lie, and who may write there at one time."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
from filelock import FileLock

HOME_VARIABLE = "RESTORE_HOME"  # one folder for everything, for example on a shared disk


def registry_path() -> Path:
    """The user's ``weights.toml``; it need not exist."""
    own = os.environ.get(HOME_VARIABLE)
    folder = Path(own) if own else platformdirs.user_config_path("restorecli", appauthor=False)
    return folder / "weights.toml"


def cache_folder() -> Path:
    """Where installed checkpoints and unfinished downloads lie; it need not exist."""
    own = os.environ.get(HOME_VARIABLE)
    return Path(own) if own else platformdirs.user_cache_path("restorecli", appauthor=False)


def lock(name: str) -> FileLock:
    """What one process at a time may hold; the others wait."""
    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")
