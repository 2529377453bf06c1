"""How long, and how much memory, does a network take by strips and by its plain forward pass?

Every way of evaluating runs in a process of its own, so that each has its own peak; the processes
take turns, so that a busy moment of the machine meets them all. With ``--authors`` the authors'
Restormer or HINT takes part, from a checkout that the person who runs this gives (they need
``einops``, HINT also ``scikit-learn``). What HINT's carries from one image to the next is dropped
before each run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.authors import authors_class, without_memory
from benchmarks.common import (
    DTYPES,
    add_network_options,
    has_device,
    machine,
    memory_bytes,
    network_settings,
    random_network,
    size,
    wait_for,
)
from restorecli.machine.allocator import keep_freed_memory
from restorecli.networks.strips import kernels, resident_bytes, restore_by_strips
from restorecli.weights import registry
from restorecli.weights.checkpoint import load_model

ALLOCATORS = {
    "kept": "freed memory is kept by all, as the command sets it",
    "default": "glibc as it is, for all",
    "own": "each one's default: kept for this project, glibc as it is for the authors' code",
}
WITHOUT = "no kernels"


@dataclass(frozen=True, slots=True)
class Run:
    """One evaluation."""

    seconds: float
    peak_bytes: int
    difference: float  # largest, from the first way's result
    predicted_bytes: int  # 0 where no formula says


def main() -> None:
    """Print one line for each size and way."""
    options = parsed_options()
    if not has_device(options.device):
        return
    ways = [f"strips {rows} {dtype}" for rows in options.strip_rows for dtype in options.dtype]
    if options.without_kernels:
        ways = [form for way in ways for form in (way, f"{way} {WITHOUT}")]
    if not options.no_plain:
        ways.insert(0, "plain")
    if options.authors:
        ways.insert(0, "authors")
    named = options.model or f"{options.network} dim {options.dim}"
    print(f"{named} on {options.device}; {machine()}")
    print(f"allocator: {ALLOCATORS[options.allocator]}; {options.repeats} runs each, in turn")
    print(f"difference: largest, from {ways[0]}")
    print(
        f"{'size':>11} {'way':>27} {'median s':>9} {'min s':>8} {'max s':>8} {'times':>6} "
        f"{'peak MB':>8} {'formula':>8} {'difference':>11}"
    )
    for height, width in options.sizes:
        runs = measured(ways, (height, width), options)
        first = statistics.median(run.seconds for run in runs[ways[0]])
        for way in ways:
            seconds = [run.seconds for run in runs[way]]
            median = statistics.median(seconds)
            print(
                f"{f'{height}x{width}':>11} {way:>27} {median:9.3f} {min(seconds):8.3f} "
                f"{max(seconds):8.3f} {first / median:6.2f} "
                f"{max(run.peak_bytes for run in runs[way]) / 1e6:8.1f} "
                f"{runs[way][0].predicted_bytes / 1e6:8.1f} "
                f"{max(run.difference for run in runs[way]):11.1e}",
                flush=True,
            )


def parsed_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_network_options(parser)
    parser.add_argument("--model", metavar="ID", help="a bundled network, in place of a random one")
    parser.add_argument("--sizes", type=size, nargs="+", default=[(256, 256)], help="as 256x256")
    parser.add_argument("--strip-rows", type=int, nargs="+", default=[16, 32])
    parser.add_argument(
        "--dtype", choices=DTYPES, nargs="+", default=["float32"], help="features of the strips"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-plain", action="store_true", help="strips only")
    parser.add_argument(
        "--without-kernels", action="store_true", help="each way of strips in PyTorch alone, too"
    )
    parser.add_argument("--allocator", choices=ALLOCATORS, default="kept")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--authors", type=Path, help="checkout of the authors' code, to compare with it"
    )
    options = parser.parse_args()
    if options.model and options.authors:
        parser.error("the authors' code knows no bundled networks: leave out --model or --authors")
    return options


def measured(
    ways: list[str], plane: tuple[int, int], options: argparse.Namespace
) -> dict[str, list[Run]]:
    """Every run of every way; they take turns."""
    spawn = multiprocessing.get_context("spawn")
    workers = {}
    for way in ways:
        here, there = spawn.Pipe()
        process = spawn.Process(target=serve, args=(there, way, plane, options), daemon=True)
        process.start()
        there.close()  # so that a process that dies ends the wait
        workers[way] = (here, process)
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    for _ in range(options.repeats):
        reference = None
        for way, (pipe, _process) in workers.items():
            pipe.send("run")
            seconds, peak, predicted, restored = pipe.recv()
            reference = restored if reference is None else reference
            difference = float(abs(restored - reference).max())
            runs[way].append(Run(seconds, peak, difference, predicted))
    for pipe, process in workers.values():
        pipe.send("stop")
        process.join()
    return runs


def serve(pipe: Connection, way: str, plane: tuple[int, int], options: argparse.Namespace) -> None:
    """Evaluate one way whenever asked; the peak is that of the first run, before it is sent."""
    if options.allocator == "kept" or (options.allocator == "own" and way != "authors"):
        keep_freed_memory()
    evaluate, formula = evaluation(way, plane, options)
    torch.manual_seed(1)
    evaluate(torch.rand(1, 3, 16, 16, device=options.device))  # what is set up once
    wait_for(options.device)
    start_bytes = held_bytes("VmRSS", options.device)
    x = torch.rand(1, 3, *plane).to(options.device)
    peak = 0
    while pipe.recv() == "run":
        wait_for(options.device)
        start = time.perf_counter()
        restored = evaluate(x)
        wait_for(options.device)
        seconds = time.perf_counter() - start
        peak = peak or held_bytes("VmHWM", options.device) - start_bytes
        pipe.send((seconds, peak, formula, restored.cpu().numpy()))
        del restored


def chosen_network(options: argparse.Namespace) -> nn.Module:
    """The network that is measured."""
    if options.model:
        return load_model(registry()[options.model], None).network
    return random_network(options)


def held_bytes(field: str, device: str) -> int:
    """Memory of this process, or of a CUDA device: ``VmRSS`` now, ``VmHWM`` the most so far."""
    if not device.startswith("cuda"):
        return memory_bytes(field)
    return torch.cuda.memory_allocated() if field == "VmRSS" else torch.cuda.max_memory_allocated()


def evaluation(
    way: str, plane: tuple[int, int], options: argparse.Namespace
) -> tuple[Callable[[Tensor], Tensor], int]:
    """A function from image to image, and the bytes it should need (0 if no formula says)."""
    network = chosen_network(options)
    if way == "authors":
        settings = network_settings(options)
        ours_alone = {name: settings.pop(name) for name in ("packing", "head", "front")}
        if ours_alone != {"packing": 1, "head": "residual", "front": "none"}:
            sys.exit("the authors' code has no packing, head or front: leave out --authors")
        theirs = authors_class(options.authors, options.network)(**settings)
        theirs.load_state_dict(network.state_dict())
        network = theirs.eval()
    network = network.to(options.device)
    if way == "authors":
        return without_memory(network), 0
    if way == "plain":
        return torch.no_grad()(network), 0
    _, rows, name, *form = way.split(maxsplit=3)
    if form == [WITHOUT]:
        kernels.kinds_with_kernels = frozenset  # in this process, which has one way
    strip_rows, dtype = int(rows), DTYPES[name]
    need = resident_bytes(
        network,
        *plane,
        strip_rows=strip_rows,
        bytes_per_value=dtype.itemsize,
        workers=torch.get_num_threads() if options.device == "cpu" else 1,
    )
    need += 2 * 3 * 4 * plane[0] * plane[1]  # the image and the result
    return lambda x: restore_by_strips(network, x, strip_rows=strip_rows, dtype=dtype), need


if __name__ == "__main__":
    main()
