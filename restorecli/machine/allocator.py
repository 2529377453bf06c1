"""Keep large blocks of memory inside the process instead of handing them back each time."""

from __future__ import annotations

import ctypes
import gc
import sys
from functools import cache

# mallopt parameter numbers, from glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
COLLECTED_OBJECTS = 70_000  # more of them than are freed, before cycles are searched among these
LARGE_BYTES = 4 * 2**20
KEEP_BYTES = 2**30  # free memory at the top of the heap is kept up to this size


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed blocks; without it every large tensor is faulted in anew.

    Returns whether it took effect: only on Linux with glibc. Call it before the first large
    allocation. Its effect: ``python -m benchmarks.strips`` with ``--allocator
    kept`` and ``default``.
    """
    libc = _glibc()
    if libc is None:
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: KEEP_BYTES, M_TOP_PAD: 64 * 2**20}
    return all(libc.mallopt(name, value) == 1 for name, value in settings.items())


def give_back_large_blocks() -> bool:
    """Tell glibc to hand every large block back at once, however many there were.

    Left alone it keeps more and more of them, in a heap full of holes. Returns whether it took
    effect. It costs time, and holds a bound on memory that many different sizes have to keep.
    """
    libc = _glibc()
    return libc is not None and libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES) == 1


def collect_rarely() -> None:
    """Search for cycles of objects, of which a run makes few, far less often than by default.

    The search takes a tenth of the time of a list of many pictures.
    """
    gc.set_threshold(COLLECTED_OBJECTS, 50, 1000)


def give_back_freed_memory() -> None:
    """Return what is free in glibc's heap to the system, once, where there is a glibc.

    A heap that many sizes have passed through is full of holes: before the widest features, and
    before memory is counted, they are given back.
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # musl and others
        return None
    return libc if hasattr(libc, "malloc_trim") else None
