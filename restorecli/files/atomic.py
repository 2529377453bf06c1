"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from restorecli.errors import OutputError
from restorecli.files.addresses import is_remote, upload

HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
PARTIAL = re.compile(r"\.restore-([0-9a-f]{8})-(\d+)-[0-9a-f]{16}\.partial")


def partial_name() -> str:
    """A new name for a file of this process that has not got its own name yet."""
    return f".restore-{HOST}-{os.getpid()}-{secrets.token_hex(8)}.partial"


def write_atomically(
    path: Path,
    data: bytes,
    *,
    overwrite: bool,
    mode: int = 0o666,
    before_publishing: Callable[[], None] = lambda: None,
) -> None:
    """Write ``data`` beside ``path``, flush it to the disk, then give it its name.

    A new file has the permission bits of ``mode`` that the umask allows; one that replaces a file
    has that file's. A symbolic link stays, and the file that it points to is replaced.
    ``before_publishing`` is called when the data are safe on the disk, without their name.

    Raises ``OutputError`` when ``path`` exists and ``overwrite`` is false, or cannot be written.
    """
    try:
        if is_remote(path):
            _upload(path, data, overwrite=overwrite, before_publishing=before_publishing)
            return
        if overwrite and path.is_symlink():
            path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(partial_name())
        try:
            descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _BINARY, mode)
            with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor, not a path)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if overwrite and path.exists():
                partial.chmod(stat.S_IMODE(path.stat().st_mode))
            before_publishing()
            _publish(partial, path, overwrite=overwrite)
        finally:
            partial.unlink(missing_ok=True)
        _flush_folder(path.parent)
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}.",
            hint="Choose another place with -o.",
        ) from error


def _upload(
    path: Path, data: bytes, *, overwrite: bool, before_publishing: Callable[[], None]
) -> None:
    """An object is there when its upload is complete, and not before."""
    before_publishing()
    try:
        upload(path, data, overwrite=overwrite)
    except FileExistsError as error:
        raise _exists_already(path) from error


_BINARY = getattr(os, "O_BINARY", 0)  # Windows


def remove_leftovers(folder: Path) -> None:
    """Remove what processes of this machine that ended by force left half-written in ``folder``."""
    for path, host, process_id in _partials(folder):
        if host == HOST and not _is_at_work(process_id, path):
            with suppress(OSError):
                path.unlink()


def remove_partials(folder: Path, host: str, process_id: int) -> None:
    """Remove what a process, of which it is known that it has ended, left in ``folder``."""
    for path, *owner in _partials(folder):
        if owner == [host, process_id]:
            with suppress(OSError):
                path.unlink()


def _partials(folder: Path) -> Iterator[tuple[Path, str, int]]:
    """Half-written files in ``folder``, each with its host and process."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if found := PARTIAL.fullmatch(entry.name):
                yield folder / entry.name, found[1], int(found[2])


def _is_at_work(process_id: int, partial: Path) -> bool:
    """Whether the process that began ``partial`` lives; its number may be another's by now."""
    try:
        return psutil.Process(process_id).create_time() <= partial.stat().st_mtime + 1
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


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
        if os.path.lexists(path):
            raise _exists_already(path) from None
        partial.replace(path)


def _flush_folder(folder: Path) -> None:
    """Make the new name as durable as the data; Windows and some file systems cannot."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exists_already(path: Path) -> OutputError:
    return OutputError(f"{path} exists already.", hint="Give --overwrite to replace it.")
