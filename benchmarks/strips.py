"""How long, and how much memory, does a network take by strips and by its plain forward pass?

Every way of evaluating runs in a process of its own, so that each has its own peak; the processes
take turns, so that a busy moment of the machine meets them all.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from restorecli.allocator import keep_freed_memory
from restorecli.networks import NETWORKS
from restorecli.networks.strips import resident_bytes, restore_by_strips

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
STATUS = Path("/proc/self/status")


def main() -> None:
    """Print one line for each size and way."""
    options = parsed_options()
    ways = [f"strips {rows}" for rows in options.strip_rows]
    if not options.no_plain:
        ways.insert(0, "plain")
    if options.authors:
        ways.insert(0, "authors")
    print(
        f"{options.network} dim {options.dim}, {options.dtype}, torch {torch.__version__}, ", end=""
    )
    print(f"{torch.get_num_threads()} threads; {options.repeats} runs each, in turn")
    print(
        f"{'size':>11} {'way':>12} {'median s':>9} {'min s':>8} {'peak MB':>8} {'formula':>8}",
        end="",
    )
    print(f" {'difference':>11}")
    for height, width in options.sizes:
        runs = measured(ways, (height, width), options)
        for way in ways:
            seconds, peaks, difference, formula = zip(*runs[way], strict=True)
            print(
                f"{f'{height}x{width}':>11} {way:>12} {statistics.median(seconds):9.3f} "
                f"{min(seconds):8.3f} {max(peaks) / 1e6:8.1f} {formula[0] / 1e6:8.1f} "
                f"{max(difference):11.1e}",
                flush=True,
            )


def parsed_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, default="restormer")
    parser.add_argument("--dim", type=int, default=48)
    parser.add_argument("--num-blocks", type=int, nargs=4, default=[4, 6, 6, 8])
    parser.add_argument("--refinement", type=int, default=4)
    parser.add_argument("--norm", choices=("WithBias", "BiasFree"), default="WithBias")
    parser.add_argument("--sizes", type=size, nargs="+", default=[(256, 256)], help="as 256x256")
    parser.add_argument("--strip-rows", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="features of the strips")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-plain", action="store_true", help="strips only")
    parser.add_argument("--default-allocator", action="store_true", help="leave glibc as it is")
    parser.add_argument(
        "--authors", type=Path, help="checkout of the authors' Restormer, to compare with it"
    )
    return parser.parse_args()


def size(text: str) -> tuple[int, int]:
    """``HEIGHTxWIDTH`` in pixels."""
    height, width = text.split("x")
    return int(height), int(width)


def measured(
    ways: list[str], plane: tuple[int, int], options: argparse.Namespace
) -> dict[str, list[tuple[float, int, float, int]]]:
    """Seconds, peak bytes, largest difference from the plain result, and formula, of every run."""
    spawn = multiprocessing.get_context("spawn")
    workers = {}
    for way in ways:
        here, there = spawn.Pipe()
        process = spawn.Process(target=serve, args=(there, way, plane, options), daemon=True)
        process.start()
        workers[way] = (here, process)
    runs: dict[str, list[tuple[float, int, float, int]]] = {way: [] for way in ways}
    for _ in range(options.repeats):
        reference = None
        for way, (pipe, _process) in workers.items():
            pipe.send("run")
            seconds, peak, formula, restored = pipe.recv()
            reference = restored if reference is None else reference
            difference = float(abs(restored - reference).max())
            runs[way].append((seconds, peak, difference, formula))
    for pipe, process in workers.values():
        pipe.send("stop")
        process.join()
    return runs


def serve(pipe: Connection, way: str, plane: tuple[int, int], options: argparse.Namespace) -> None:
    """Evaluate one way whenever asked; the first run's peak counts, later ones reuse memory."""
    if not options.default_allocator:
        keep_freed_memory()
    evaluate, formula = evaluation(way, plane, options)
    torch.manual_seed(1)
    evaluate(torch.rand(1, 3, 16, 16))  # what libraries set up once is not the evaluation's
    start_bytes = memory_bytes("VmRSS")
    x = torch.rand(1, 3, *plane)
    while pipe.recv() == "run":
        start = time.perf_counter()
        restored = evaluate(x)
        seconds = time.perf_counter() - start
        pipe.send((seconds, memory_bytes("VmHWM") - start_bytes, formula, restored.numpy()))


def evaluation(
    way: str, plane: tuple[int, int], options: argparse.Namespace
) -> tuple[Callable[[Tensor], Tensor], int]:
    """A function from image to image, and the bytes it should need (0 if no formula says)."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "dim": options.dim,
        "num_blocks": options.num_blocks,
        "num_refinement_blocks": options.refinement,
        "LayerNorm_type": options.norm,
    }
    network: nn.Module = NETWORKS[options.network](**settings).eval()
    if way == "authors":
        theirs = authors_restormer(options.authors)(**settings).eval()
        theirs.load_state_dict(network.state_dict())
        network = theirs
    if not way.startswith("strips"):
        return torch.no_grad()(network), 0
    rows = int(way.split()[1])
    dtype = DTYPES[options.dtype]
    need = resident_bytes(network, *plane, strip_rows=rows, bytes_per_value=dtype.itemsize)
    need += 2 * 3 * 4 * plane[0] * plane[1]  # the image and the result
    return lambda x: restore_by_strips(network, x, strip_rows=rows, dtype=dtype), need


def authors_restormer(checkout: Path) -> type[nn.Module]:
    """The class in basicsr/models/archs/restormer_arch.py of their repository."""
    path = checkout / "basicsr" / "models" / "archs" / "restormer_arch.py"
    spec = importlib.util.spec_from_file_location("authors_restormer", path)
    if spec is None or spec.loader is None or not path.is_file():
        sys.exit(f"no Restormer in {checkout}: expected {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Restormer


def memory_bytes(field: str) -> int:
    """One line of /proc/self/status: VmRSS (now) or VmHWM (the most so far)."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
