"""What runs inside a Ray actor: one network on one device."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restorecli.errors import DeviceError
from restorecli.files.atomic import HOST
from restorecli.images import FileOptions
from restorecli.machine.cores import available_cores, wait_asleep
from restorecli.machine.versions import versions
from restorecli.report import Row
from restorecli.runs.manifest import Ledger
from restorecli.runs.picture import finished_meanwhile
from restorecli.runs.ray.probes import Probes
from restorecli.runs.run import Silent
from restorecli.runs.selection import Item
from restorecli.scoring.score import InPass

if TYPE_CHECKING:
    from restorecli.engine.engine import Engine

MOMENT_S = 0.2  # for which results may wait for those of other pictures
ALIKE = ("restorecli", "torch", "numpy", "opencv-python-headless", "pillow")  # they make the pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What every actor is told once."""

    task: str
    network: Mapping[str, Any]  # arguments of `restorecli.engine.engine.prepare`
    offline: bool
    files: FileOptions
    ledger: Ledger
    scoring: InPass | None
    versions: Mapping[str, str]  # of the driver
    folder: Path  # of the driver, to which relative paths refer


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an actor says of itself when it is ready."""

    node_id: str
    host: str  # as in the names of its temporary files
    process_id: int
    device: str
    precision: str


class Worker:
    """One network, ready to restore pictures one after the other."""

    setup: Setup
    engine: Engine

    def start(self, setup: Setup, probes: Probes) -> Facts:
        """Load the network; raises a ``RestoreError`` for all that cannot work on this node."""
        import ray

        wait_asleep()  # before torch is loaded
        from restorecli.engine.devices import total_bytes
        from restorecli.engine.engine import prepare

        context = ray.get_runtime_context()
        node = f"{ray.util.get_node_ip_address()} (node {context.get_node_id()[:8]})"
        _refuse_other_versions(setup.versions, node)
        with suppress(OSError):  # absolute paths do without it, of others the probes tell
            os.chdir(setup.folder)
        probes.check(node)
        _install(setup)
        engine = prepare(setup.task, **setup.network)
        gpus = float(context.get_assigned_resources().get("GPU", 1))
        share = (
            gpus if engine.device.type == "cuda" else setup.network["threads"] / available_cores()
        )
        if engine.max_bytes is None and share < 1:
            engine = replace(engine, max_bytes=int(share * total_bytes(engine.device)))
        self.setup, self.engine = setup, engine
        return Facts(
            node_id=context.get_node_id(),
            host=HOST,
            process_id=os.getpid(),
            device=engine.device.type,
            precision=engine.precision_name,
        )

    def restore(self, items: Sequence[Item], *, again: bool, tighter: bool) -> list[Row]:
        """Restore pictures from the first on until a moment has passed.

        ``again``: the worker that had them is gone, perhaps after it had written results, which
        may then be replaced; the bytes are the same. ``tighter``: with half of the memory.
        """
        from restorecli.runs.local import restore_item

        engine = _with_half_the_memory(self.engine) if tighter else self.engine
        begun, rows = time.monotonic(), list[Row]()
        for item in items:
            if again and (item.root is None or finished_meanwhile(item, self.setup.ledger)):
                item = replace(item, replaces=True)
            row = restore_item(
                engine,
                item,
                listener=Silent(),
                scoring=self.setup.scoring,
                files=self.setup.files,
                ledger=self.setup.ledger,
            )
            rows.append(row)
            if time.monotonic() - begun > MOMENT_S:
                break
        return rows


def _refuse_other_versions(expected: Mapping[str, str], node: str) -> None:
    found = versions()
    for name in ALIKE:
        if found[name] != expected[name]:
            raise DeviceError(
                f"The worker on {node} has {name} {found[name]}, here it is {expected[name]}: "
                "the pixels could differ.",
                hint="Install the same versions on all nodes.",
            )


def _install(setup: Setup) -> None:
    """Download the network to this node if it is not there."""
    model_id = setup.network["model_id"]
    if model_id is None or setup.network["weights"] is not None:
        return
    from restorecli.weights import registry

    entry = registry()[model_id]
    if entry.url and not (entry.path and entry.path.exists()):
        from restorecli.weights.download import download

        download(entry, offline=setup.offline)


def _with_half_the_memory(engine: Engine) -> Engine:
    from restorecli.engine.devices import free_bytes, held_bytes

    held = held_bytes(engine.device)
    most = held + free_bytes(engine.device)
    limit = min(engine.max_bytes or most, most)
    return replace(engine, max_bytes=held + max(0, limit - held) // 2)
