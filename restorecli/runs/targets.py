"""Whether results can be written where they should go, asked before any work is done."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from restorecli.errors import OutputError
from restorecli.files.addresses import is_remote
from restorecli.files.atomic import partial_name
from restorecli.files.regular import is_directory
from restorecli.runs.items import Item, Selection


def with_writable_targets(selection: Selection) -> Selection:
    """``selection`` where items whose results could not be written have failed already.

    A file is made in each folder and removed again: rights, access lists and file systems that
    are mounted for reading only say it in ways of their own.
    """
    known: dict[Path, OutputError | None] = {}
    items = [_checked(item, known) for item in selection.items]
    return replace(selection, items=items)


def _checked(item: Item, known: dict[Path, OutputError | None]) -> Item:
    if item.error or item.finished or item.to_stdout or is_remote(item.target):
        return item
    target = item.target
    if target.is_symlink():  # the file that it points to is replaced
        target = Path(os.path.realpath(target))
    if target.parent not in known:
        known[target.parent] = _problem(target.parent)
    error = known[target.parent]
    if error is None and is_directory(target):
        error = OutputError(
            f"Cannot write {target}: a folder has this name.", hint="Choose another place with -o."
        )
    return replace(item, fate=error) if error else item


def _problem(folder: Path) -> OutputError | None:
    """Why no file can be made in ``folder``, or in one that has to be made first."""
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not is_directory(there):
        return _cannot(folder, f"{there} is a file, not a folder")
    if there != folder:
        if os.access(there, os.W_OK | os.X_OK):
            return None
        return _cannot(folder, f"no folder can be made in {there}")
    probe = folder / partial_name()
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        probe.unlink()
    except OSError as error:
        return _cannot(folder, str(error.strerror or error))
    return None


def _cannot(folder: Path, reason: str) -> OutputError:
    return OutputError(
        f"Cannot write into {folder}: {reason}.", hint="Choose another place with -o."
    )
