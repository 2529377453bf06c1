"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from restorecli.errors import OutputError


def write_atomically(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write ``data`` beside ``path``, flush it to the disk, then give it its name.

    Raises ``OutputError`` when ``path`` exists and ``overwrite`` is false, or cannot be written.
    """
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _publish(partial, path, overwrite=overwrite)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}.",
            hint="Choose another place with -o.",
        ) from error


def _publish(partial: Path, path: Path, *, overwrite: bool) -> None:
    """Rename; without ``overwrite``, in a way that fails if ``path`` has appeared meanwhile."""
    if overwrite:
        partial.replace(path)
        return
    try:
        path.hardlink_to(partial)
    except FileExistsError as error:
        raise _exists_already(path) from error
    except OSError:  # a file system without hard links
        if path.exists():
            raise _exists_already(path) from None
        partial.replace(path)


def _exists_already(path: Path) -> OutputError:
    return OutputError(f"{path} exists already.", hint="Give --overwrite to replace it.")
