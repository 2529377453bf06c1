"""Keep large blocks of memory inside the process instead of handing them back each time."""

from __future__ import annotations

import ctypes
import sys

# mallopt parameter numbers, from glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
KEEP_BYTES = 2**30  # free memory at the top of the heap is kept up to this size


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed blocks; without it every large tensor is faulted in anew.

    Returns whether it took effect: only on Linux with glibc. Call it before the first large
    allocation. Its effect: ``python -m benchmarks.strips`` with and without
    ``--default-allocator``.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl and others
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: KEEP_BYTES, M_TOP_PAD: 64 * 2**20}
    return all(mallopt(name, value) == 1 for name, value in settings.items())
