"""Regular files are read; pipes, devices and sockets are refused before anything waits for them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO

from restorecli.files.addresses import is_remote

NOT_BLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # neither on every system
KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class IrregularError(OSError):
    """What was to be read is no file: ``strerror`` says what it is."""


class TooLargeError(OSError):
    """A file has more bytes than what is wanted of it can have."""


def open_regular(path: Path) -> IO[bytes]:
    """Open the file ``path``, here or at an address, for reading.

    Raises ``IrregularError`` for a pipe, a device or a socket, without waiting for one to write
    into it, and ``OSError`` for what cannot be opened.
    """
    if is_remote(path):
        return path.open("rb")
    _refuse_irregular(os.stat(path).st_mode)  # noqa: PTH116 (opening a device may do something)
    descriptor = os.open(path, os.O_RDONLY | NOT_BLOCKING)
    try:
        _refuse_irregular(os.fstat(descriptor).st_mode)  # it may be another by now
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        return open(descriptor, "rb")  # noqa: PTH123 (a descriptor, not a path)
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, *, most_bytes: int) -> bytes:
    """Content of the file ``path``, of which no more than ``most_bytes`` are ever read.

    Raises ``TooLargeError`` when there is more, and like `open_regular`.
    """
    with open_regular(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size  # zero of some files that have content
        data = b"" if size_bytes > most_bytes else file.read(most_bytes + 1)
    if max(size_bytes, len(data)) > most_bytes:
        raise TooLargeError(errno.EFBIG, f"it has more than {most_bytes:,} bytes")
    return data


def is_directory(path: Path) -> bool:
    """Whether ``path`` is a folder; what cannot be looked at is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _refuse_irregular(mode: int) -> None:
    if kind := KINDS.get(stat.S_IFMT(mode)):
        raise IrregularError(errno.EINVAL, f"it is {kind}, not a file")
