"""What half precision changes: ``python -m training.precision --data EVAL [ID …]``.

Runs the ``restore`` command in float32 and in bfloat16 on the evaluation sets of each network's
tasks and compares the pictures that it writes. With ``--write`` the record goes into weights.toml,
by which ``--precision auto`` decides.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tomlkit

from restorecli.scoring.metrics import PROTOCOLS, score
from restorecli.weights import WeightEntry, registry
from training.runner import by_id, restored
from training.testsets import SETS, TestSet, pairs_of

REGISTRY = Path(__file__).parents[1] / "weights.toml"


def main() -> None:
    """Print, and with ``--write`` record, what each network loses."""
    parser = argparse.ArgumentParser(prog="python -m training.precision", description=__doc__)
    parser.add_argument("ids", nargs="*", metavar="ID", help="default: every bundled network")
    parser.add_argument("--data", type=Path, required=True, help="folder of the test sets")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N pictures of each set")
    parser.add_argument("--write", action="store_true", help=f"into {REGISTRY.name}")
    options = parser.parse_args()
    print(
        f"{'network':>28} {'set':>28} {'pictures':>8} {'fp32 dB':>8} {'loss dB':>8} {'largest':>8}"
    )
    for name in options.ids or [e.id for e in registry().values() if e.is_bundled]:
        rows = list(measured(registry()[name], options.data, options.limit))
        if rows and options.write:
            limit = f" --limit {options.limit}" if options.limit else ""
            record(
                registry()[name], rows, f"python -m training.precision --data EVAL{limit} {name}"
            )


Measured = tuple[float, int, int]  # loss in dB, largest difference in levels, pictures


def measured(entry: WeightEntry, data: Path, limit: int | None) -> Iterator[Measured]:
    """One line for each set of the network's tasks."""
    for chosen in SETS:
        if chosen.task not in entry.tasks:
            continue
        loss_db, largest, pictures, psnr_db = compared(entry, chosen, data, limit)
        print(
            f"{entry.id:>28} {chosen.name:>28} {pictures:8} {psnr_db:8.3f} {loss_db:8.4f} "
            f"{largest:8}",
            flush=True,
        )
        yield loss_db, largest, pictures


def compared(
    entry: WeightEntry, chosen: TestSet, data: Path, limit: int | None
) -> tuple[float, int, int, float]:
    """Loss in dB, largest difference in levels, pictures, and PSNR in float32, of one set."""
    pairs = pairs_of(chosen, data, limit)
    protocol = PROTOCOLS[chosen.protocol]
    results = {
        precision: restored(chosen.task, [p.degraded for p in pairs], by_id(entry.id), precision)
        for precision in ("fp32", "bf16")
    }
    psnr_db = {
        precision: float(
            np.mean(
                [
                    score(r, p.clean, protocol)[protocol.keys[0]]
                    for r, p in zip(each, pairs, strict=True)
                ]
            )
        )
        for precision, each in results.items()
    }
    largest = max(
        int(np.abs(exact.astype(int) - rough).max())
        for exact, rough in zip(results["fp32"], results["bf16"], strict=True)
    )
    return psnr_db["fp32"] - psnr_db["bf16"], largest, len(pairs), psnr_db["fp32"]


def record(entry: WeightEntry, rows: list[Measured], command: str) -> None:
    """Write the worst of ``rows`` into ``entry``."""
    document = tomlkit.parse(REGISTRY.read_text(encoding="utf-8"))
    table = tomlkit.inline_table()
    table["loss_db"] = round(max(row[0] for row in rows), 4)
    table["largest_difference"] = max(row[1] for row in rows)
    table["pictures"] = sum(row[2] for row in rows)
    table["command"] = command
    table["sha256"] = entry.sha256 or ""
    document[entry.id]["bfloat16"] = table
    REGISTRY.write_text(tomlkit.dumps(document), encoding="utf-8")


if __name__ == "__main__":
    main()
