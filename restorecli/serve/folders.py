"""Where results go when nobody says where."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from restorecli.errors import UsageError
from restorecli.files.addresses import is_address
from restorecli.files.regular import is_directory
from restorecli.machine.folders import state_folder

NAME = "served"
PRIVATE = 0o700


def results_folder(named: str | None) -> Path:
    """``named``, or a folder of this user's own that stays; ``UsageError`` for what is none."""
    if named is None:
        return _own_folder()
    if is_address(named):
        raise UsageError(f"-o {named}: results of the page go to a folder of this machine.")
    folder = Path(named).expanduser().absolute()
    if os.path.lexists(folder) and not is_directory(folder):
        raise UsageError(f"-o {named} is a file, not a folder.", hint="Name another one.")
    return folder


def _own_folder() -> Path:
    state = state_folder()
    if state is None:  # a user without a home
        return Path(tempfile.mkdtemp(prefix="restored-"))
    folder = state.absolute() / NAME
    with suppress(OSError):  # told when it is used
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    return folder
