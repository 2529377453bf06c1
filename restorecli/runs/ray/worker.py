"""What runs inside a Ray actor: one network on one device."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from restorecli.errors import DeviceError
from restorecli.files.atomic import HOST
from restorecli.machine.cores import available_cores, wait_asleep
from restorecli.machine.versions import versions
from restorecli.report import Row
from restorecli.runs.items import Item
from restorecli.runs.job import Job, Pool
from restorecli.runs.manifest import Ledger
from restorecli.runs.ray.probes import Probes
from restorecli.runs.resuming import finished_meanwhile

if TYPE_CHECKING:
    from restorecli.engine.chain import Chain
    from restorecli.engine.engine import Engine

MOMENT_S = 0.2  # for which results may wait for those of other pictures
# They make the pixels.
ALIKE = ("restorecli", "torch", "numpy", "opencv-python-headless", "pillow", "llvmlite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What every actor is told once."""

    job: Job  # without its pictures
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

    job: Job
    engine: Chain
    ledger: Ledger

    def start(self, setup: Setup, probes: Probes) -> Facts:
        """Load the network; raises a ``RestoreError`` for all that cannot work on this node."""
        import ray

        wait_asleep()  # before torch is loaded
        from restorecli.engine.chain import prepare_chain
        from restorecli.engine.devices import total_bytes

        context = ray.get_runtime_context()
        node = f"{ray.util.get_node_ip_address()} (node {context.get_node_id()[:8]})"
        _refuse_other_versions(setup.versions, node)
        with suppress(OSError):  # absolute paths do without it, of others the probes tell
            os.chdir(setup.folder)
        probes.check(node)
        job = setup.job
        _install(job)
        engine = prepare_chain([step.engine for step in job.steps])
        gpus = float(context.get_assigned_resources().get("GPU", 1))
        cpus = (job.engine.threads or 1) / available_cores()
        share = gpus if engine.device.type == "cuda" else cpus
        if job.engine.max_bytes is None and share < 1:
            part = int(share * total_bytes(engine.device))
            engine = engine.limited(lambda step: part)
        self.job, self.engine = job, engine
        self.ledger = Ledger(fingerprint=job.fingerprint)
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
            if again and (item.root is None or finished_meanwhile(item, self.ledger)):
                item = replace(item, fate="replace")
            rows.append(restore_item(engine, self.job, self.ledger, item))
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


def _install(job: Job) -> None:
    """Download the networks to this node if they are not there."""
    pool = job.pool or Pool()
    for model in job.models:
        if model.file is None and model.entry is not None:
            from restorecli.weights.download import make_available

            make_available(model.entry, offline=pool.offline)


def _with_half_the_memory(engine: Chain) -> Chain:
    from restorecli.engine.devices import free_bytes, held_bytes

    held = held_bytes(engine.device)
    most = held + free_bytes(engine.device)

    def half(step: Engine) -> int:
        limit = min(step.max_bytes or most, most)
        return held + max(0, limit - held) // 2

    return engine.limited(half)
