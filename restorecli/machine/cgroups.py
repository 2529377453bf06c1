"""What a container or a service may use of its machine: cores and memory, by Linux's cgroups.

A limit holds for a group and all groups below it, so those of every level from the process's own
group to the root are looked at. Versions 1 and 2 are read; elsewhere nothing is limited.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROC = Path("/proc/self")
CACHED_V2, CACHED_V1 = (
    ("active_file", "inactive_file"),
    ("total_active_file", "total_inactive_file"),
)


def core_limit() -> float:
    """Processor time that the groups of this process allow, in cores; infinite without a limit."""
    return min((_cores(folder) for folder in group_folders("cpu")), default=math.inf)


def memory_limit_bytes() -> float:
    """Memory that the groups of this process may hold; infinite without a limit."""
    return min((memory.limit_bytes for memory in _memories()), default=math.inf)


def memory_left_bytes() -> float:
    """Memory that the groups of this process may still take; infinite without a limit."""
    return min((max(memory.left_bytes, 0) for memory in _memories()), default=math.inf)


@dataclass(frozen=True, slots=True)
class _Memory:
    """Of one group."""

    limit_bytes: int
    used_bytes: int  # without copies of files, which make room when it is needed

    @property
    def left_bytes(self) -> int:
        return self.limit_bytes - self.used_bytes


def _memories() -> Iterator[_Memory]:
    """Every group of this process that has a limit of memory."""
    for folder in group_folders("memory"):
        for limit, usage, cached in (
            ("memory.max", "memory.current", CACHED_V2),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", CACHED_V1),
        ):
            limit_bytes, used_bytes = _number(folder / limit), _number(folder / usage)
            if limit_bytes is not None and used_bytes is not None:
                files = sum(_statistic(folder / "memory.stat", name) for name in cached)
                yield _Memory(limit_bytes, max(used_bytes - files, 0))


def _cores(folder: Path) -> float:
    """Of one group, infinite without a limit."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, _, period = (folder / "cpu.max").read_text().partition(" ")
        return math.inf if quota == "max" else int(quota) / int(period)
    quota_us, period_us = (_number(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return quota_us / period_us if quota_us and period_us and quota_us > 0 else math.inf


def _number(path: Path) -> int | None:
    """The number in a file; ``None`` if there is none: ``max``, or no such file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    """A line of memory.stat, in bytes; 0 if it is not there."""
    with suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0


def group_folders(controller: str) -> Iterator[Path]:
    """The folders of this process's groups that may limit ``controller``, the own one first."""
    try:
        groups = (PROC / "cgroup").read_text().splitlines()
        mounts = (PROC / "mountinfo").read_text().splitlines()
    except OSError:  # no Linux, or a /proc that shows nothing
        return
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for root, mount_point in _mounted(mounts, controller if controllers else None):
            yield from _from_group_to_root(PurePosixPath(path), root, mount_point)


def _mounted(mounts: list[str], controller: str | None) -> Iterator[tuple[PurePosixPath, Path]]:
    """Root and mount point of version 1's ``controller``, or of version 2 if it is ``None``."""
    for mount in mounts:
        before, separator, after = mount.partition(" - ")
        if not separator:
            continue
        root, mount_point = before.split()[3:5]
        kind, _, rest = after.partition(" ")
        of_version = "cgroup2" if controller is None else "cgroup"
        if kind == of_version and (controller is None or controller in rest.split()[-1].split(",")):
            yield PurePosixPath(root), Path(mount_point)


def _from_group_to_root(
    group: PurePosixPath, root: PurePosixPath, mount_point: Path
) -> Iterator[Path]:
    """Folders from that of ``group`` up to ``mount_point``, where ``root`` is seen."""
    below = group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()
    yield mount_point / below
    for parent in below.parents:
        yield mount_point / parent
