"""The cores that this process may use, and how its threads wait for one another."""

from __future__ import annotations

import math
import os

from restorecli.machine.cgroups import core_limit

# Threads of OpenMP spin in every barrier by default. A picture passes thousands of them, and as
# soon as a core is shared with another process, one that spins keeps away the one it waits for.
# These turns take about as long as threads that really run wait for each other: to sleep at once
# costs more than it saves where others wait for every core that is let go.
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "5000"}
OF_THE_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # any of them says enough
THREADS_OF_THE_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def available_cores() -> int:
    """Cores this process may use: by its affinity, and by the quota of its container."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = core_limit()
    return cores if math.isinf(quota) else max(1, min(cores, math.ceil(quota)))


def default_threads(found: int) -> int:
    """How many threads compute where torch has found room for ``found``.

    It looks at the machine and the affinity, not at the quota; what the user has set stays.
    """
    return found if threads_are_given(None) else min(found, available_cores())


def threads_are_given(asked: int | None) -> bool:
    """Whether the user has said how many threads compute, as ``asked`` or by the environment."""
    return asked is not None or any(name in os.environ for name in THREADS_OF_THE_USER)


def wait_asleep() -> None:
    """Let threads sleep while they wait for one another, unless the user has said how they wait.

    OpenMP reads its settings when torch is loaded, so this comes before that. They are those of
    this process and of the processes that it starts.
    """
    if not any(name in os.environ for name in OF_THE_USER):
        os.environ.update(WAITING)
