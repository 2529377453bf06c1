"""The private folder in which uploaded originals lie while the page is open."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from restorecli.errors import OutputError
from restorecli.files.atomic import HOST, is_at_work

NAME = re.compile(r"\.restore-uploads-([0-9a-f]{8})-(\d+)-[0-9a-f]{16}")
PRIVATE = 0o700


@contextmanager
def uploads(folder: Path) -> Iterator[Path]:
    """A folder inside ``folder`` for this process alone; it is removed at the end.

    What a process left there that ended by force is removed first. Raises ``OutputError``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder)
        place = folder / f".restore-uploads-{HOST}-{os.getpid()}-{secrets.token_hex(8)}"
        place.mkdir(mode=PRIVATE)
    except OSError as error:
        raise OutputError(
            f"Cannot write into {folder}: {error.strerror or error}.",
            hint="Choose another place with -o.",
        ) from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def remove_abandoned(folder: Path) -> None:
    """Remove originals of servers of this machine that are no more."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = NAME.fullmatch(entry.name)
            if found is None or entry.is_symlink() or found[1] != HOST:
                continue
            if not is_at_work(int(found[2]), Path(entry.path)):
                shutil.rmtree(entry.path, ignore_errors=True)
