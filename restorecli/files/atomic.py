"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from restorecli.errors import OutputError
from restorecli.files.addresses import is_remote, upload

LOST = {errno.EIO, errno.ENOSPC, errno.EFBIG, errno.EROFS, getattr(errno, "EDQUOT", errno.EIO)}
NOT_FLUSHED = "this file system cannot flush: a power cut now could cost the result"
NOT_PERMITTED = "this file system does not let permissions be set: the result has its own"
IN_TWO_STEPS = "this file system cannot replace a file in one step: it was done in two"
HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
END_S = 10  # for a process that was killed to be gone
MOMENT_S = 0.01
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
) -> tuple[str, ...]:
    """Write ``data`` beside ``path``, flush it to the disk, then give it its name.

    A new file has the permission bits of ``mode`` that the umask allows; one that replaces a file
    has that file's. A symbolic link stays, and the file that it points to is replaced.
    ``before_publishing`` is called when the data are safe on the disk, without their name.

    Returns notes on what the file system does not do, such as setting permissions. Raises
    ``OutputError`` when ``path`` exists and ``overwrite`` is false, or cannot be written.
    """
    notes: list[str] = []
    try:
        if is_remote(path):
            _upload(path, data, overwrite=overwrite, before_publishing=before_publishing)
            return ()
        if overwrite and path.is_symlink():
            path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(partial_name())
        try:
            descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _BINARY, mode)
            with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor, not a path)
                file.write(data)
                file.flush()
                notes += flush(file.fileno())
            if overwrite and path.exists():
                notes += _permit(partial, stat.S_IMODE(path.stat().st_mode))
            before_publishing()
            notes += _publish(partial, path, overwrite=overwrite)
        finally:
            partial.unlink(missing_ok=True)
        _flush_folder(path.parent)
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}.",
            hint="Choose another place with -o.",
        ) from error
    return tuple(notes)


def flush(descriptor: int) -> tuple[str, ...]:
    """Make what was written durable; a note where the file system does not know how.

    Raises ``OSError`` when the data did not reach the disk, such as for want of room.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in LOST:
            raise
        return (NOT_FLUSHED,)
    return ()


def _permit(path: Path, mode: int) -> tuple[str, ...]:
    if stat.S_IMODE(path.stat().st_mode) == mode:
        return ()
    try:
        path.chmod(mode)
    except OSError:  # network shares and phones
        return (NOT_PERMITTED,)
    return ()


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
        if host == HOST and not is_at_work(process_id, path):
            with suppress(OSError):
                path.unlink()


def remove_partials(folder: Path, host: str, process_id: int) -> None:
    """Remove what a process that is ending, or has ended, leaves in ``folder``.

    One of this machine is waited for: it goes on writing until it is gone.
    """
    if host == HOST:
        _wait_for_end(process_id)
    for path, *owner in _partials(folder):
        if owner == [host, process_id]:
            with suppress(OSError):
                path.unlink()


def _wait_for_end(process_id: int) -> None:
    latest = time.monotonic() + END_S
    with suppress(psutil.Error):
        process = psutil.Process(process_id)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > latest:
                return
            time.sleep(MOMENT_S)


def _partials(folder: Path) -> Iterator[tuple[Path, str, int]]:
    """Half-written files in ``folder``, each with its host and process."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if found := PARTIAL.fullmatch(entry.name):
                yield folder / entry.name, found[1], int(found[2])


def is_at_work(process_id: int, partial: Path) -> bool:
    """Whether the process that began ``partial`` lives; its number may be another's by now."""
    try:
        return psutil.Process(process_id).create_time() <= partial.stat().st_mtime + 1
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def _publish(partial: Path, path: Path, *, overwrite: bool) -> tuple[str, ...]:
    """Rename; without ``overwrite``, in a way that fails if ``path`` has appeared meanwhile."""
    if overwrite:
        return _replace(partial, path)
    try:
        path.hardlink_to(partial)
    except FileExistsError as error:
        raise _exists_already(path) from error
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise _exists_already(path) from None
        partial.replace(path)
    return ()


def _replace(partial: Path, path: Path) -> tuple[str, ...]:
    """Give ``partial`` the name of ``path``, in two steps where one is not possible.

    Between them the old file has a name beside it, which no clearing away removes.
    """
    try:
        partial.replace(path)
    except OSError as error:
        if error.errno in LOST or not path.exists():
            raise
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.original")
        path.rename(aside)
        try:
            partial.rename(path)
        except OSError:
            aside.rename(path)
            raise
        aside.unlink()
        return (IN_TWO_STEPS,)
    return ()


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
