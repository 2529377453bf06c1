"""How many of its cores other processes leave to this one; known on Linux only."""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")
WINDOW_S = 0.3  # over which others are watched at least; shorter ones say little


@dataclass(frozen=True, slots=True)
class Moment:
    """What was computed until a moment, in seconds of one core."""

    at_s: float
    busy_s: float  # by all processes, on the cores that this one may use
    own_s: float


class Watch:
    """Watches the cores from one question to the next."""

    def __init__(self) -> None:
        self._last: Moment | None = None
        self._free = math.inf

    def begin(self) -> None:
        """Watch from now on, unless it does."""
        self._last = self._last or moment()

    def free_cores(self) -> float:
        """Cores that others did not use since the last question; infinite where nobody knows."""
        now, last = moment(), self._last
        if now is None or last is None or now.at_s - last.at_s < WINDOW_S:
            return self._free
        others = (now.busy_s - last.busy_s) - (now.own_s - last.own_s)
        self._free = len(cores()) - max(others, 0) / (now.at_s - last.at_s)
        self._last = now
        return self._free


def cores() -> set[int]:
    """The cores that this process may use."""
    return os.sched_getaffinity(0)


def moment() -> Moment | None:
    """Now, or ``None`` where the system does not tell."""
    with suppress(OSError, ValueError, AttributeError):
        here, busy_ticks = cores(), 0
        for line in STAT.read_text().splitlines():
            name, *ticks = line.split()
            if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in here:
                user, nice, system = map(int, ticks[:3])
                # Processes that are nicer than this one let go of a core when it is wanted.
                busy_ticks += user + system + (nice if os.nice(0) > 0 else 0)
        own = sum(os.times()[:4])  # this process and children that have ended
        return Moment(time.monotonic(), busy_ticks / os.sysconf("SC_CLK_TCK"), own)
    return None


WATCH = Watch()  # of this process
