"""Does the memory formula hold? Predicted and measured peak of one forward pass, side by side.

    python -m benchmarks.memory [--sizes 256 512 1024]

Every measurement is a process of its own; its peak is read from the operating system.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

MEASURE = """
import json, resource, sys, time
import torch
from restorecli.allocator import keep_freed_memory
from restorecli.plan import forward_bytes
from restorecli.weights import registry
from restorecli.weights.checkpoint import load_model
from restorecli.networks import channels_last
keep_freed_memory()
size = int(sys.argv[2])
network = channels_last(load_model(registry()[sys.argv[1]], None).network)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with torch.inference_mode():
    network(torch.rand(1, 3, 64, 64))
    before, start = peak(), time.perf_counter()
    network(torch.rand(1, 3, size, size).to(memory_format=torch.channels_last))
    elapsed = time.perf_counter() - start
print(json.dumps({"measured": peak() - before, "predicted": forward_bytes(network, (size, size)),
                  "elapsed_s": elapsed}))
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--model", default="hint-derain-compact")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    args = parser.parse_args()
    print(f"{'size':>6} {'predicted MB':>13} {'measured MB':>12} {'ratio':>6} {'seconds':>8}")
    for size in args.sizes:
        command = [sys.executable, "-c", MEASURE, args.model, str(size)]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(ended.stdout)
        ratio = found["measured"] / found["predicted"]
        print(
            f"{size:>6} {found['predicted'] / 1e6:>13.1f} {found['measured'] / 1e6:>12.1f} "
            f"{ratio:>6.2f} {found['elapsed_s']:>8.2f}"
        )


if __name__ == "__main__":
    main()
