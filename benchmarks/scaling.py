"""Does time per pixel stay the same as pictures grow? ``python -m benchmarks.scaling``.

By strips of the height that the command chooses. Every size has a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from benchmarks.common import (
    DTYPES,
    add_network_options,
    has_device,
    in_fresh_process,
    machine,
    memory_bytes,
    random_network,
    size,
    wait_for,
)
from restorecli.engine.plan import strip_height
from restorecli.machine.allocator import keep_freed_memory
from restorecli.networks.strips import restore_by_strips


def main() -> None:
    """Print one line for each size; ``times`` is time per pixel, the first size being 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_network_options(parser)
    parser.add_argument(
        "--sizes",
        type=size,
        nargs="+",
        default=[(256, 256), (512, 512), (1024, 1024), (2048, 2048)],
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    if not has_device(options.device):
        return
    print(f"{options.network} dim {options.dim}, {options.dtype} on {options.device}; {machine()}")
    print(f"{'size':>11} {'rows':>5} {'median s':>9} {'min s':>8} {'max s':>8} {'s/MP':>8} "
          f"{'times':>6} {'peak MB':>8}")  # fmt: skip
    first = None
    for plane in options.sizes:
        seconds, peak = in_fresh_process(evaluate, options, plane)
        median = statistics.median(seconds)
        per_megapixel = median / (plane[0] * plane[1] / 1e6)
        first = first or per_megapixel
        print(
            f"{f'{plane[0]}x{plane[1]}':>11} {strip_height(plane[1]):5} {median:9.3f} "
            f"{min(seconds):8.3f} {max(seconds):8.3f} {per_megapixel:8.2f} "
            f"{per_megapixel / first:6.2f} {peak / 1e6:8.1f}",
            flush=True,
        )


def evaluate(options: argparse.Namespace, plane: tuple[int, int]) -> tuple[list[float], int]:
    """Seconds of every run after a small first one, and the peak of memory above the start."""
    keep_freed_memory()
    network, dtype = random_network(options).to(options.device), DTYPES[options.dtype]
    restore_by_strips(network, torch.rand(1, 3, 16, 16).to(options.device), strip_rows=8)
    start_bytes = memory_bytes("VmRSS")
    x = torch.rand(1, 3, *plane).to(options.device)
    seconds = []
    for _ in range(options.repeats):
        wait_for(options.device)
        start = time.perf_counter()
        restore_by_strips(network, x, strip_rows=strip_height(plane[1]), dtype=dtype)
        wait_for(options.device)
        seconds.append(time.perf_counter() - start)
    if options.device.startswith("cuda"):
        return seconds, torch.cuda.max_memory_allocated()
    return seconds, memory_bytes("VmHWM") - start_bytes


if __name__ == "__main__":
    main()
