"""Who may write at one time, on file systems that know locks and on those that do not."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

HELD = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK}  # what locking says of a lock of another
FOR_EVER = -1.0


@contextmanager
def locked(path: Path, *, timeout_s: float = FOR_EVER, poll_s: float = 0.05) -> Iterator[None]:
    """Hold the lock file ``path``, alone among the processes of this machine, during the block.

    Where the file system knows no locks (some network shares, phones), the block runs without
    one: what is written there by two processes at once may be done twice, as each of them makes
    its files whole before they get their names. Raises ``TimeoutError`` after ``timeout_s``, and
    ``OSError`` when ``path`` cannot be made.
    """
    if not _can_lock(path):
        yield
        return
    with FileLock(path, timeout=timeout_s, poll_interval=poll_s):
        yield


@lru_cache(maxsize=256)  # a manifest asks for each of its records
def _can_lock(path: Path) -> bool:
    """Whether locks are known where ``path`` lies; raises ``OSError`` if it cannot be made."""
    try:
        import fcntl
    except ImportError:  # Windows, where every file system does
        return True
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in HELD
    finally:
        os.close(descriptor)
    return True
