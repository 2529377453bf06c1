"""What several measurements share: sizes, memory, fresh processes, the machine in words."""

from __future__ import annotations

import argparse
import multiprocessing
import platform
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from restorecli.networks import PICTURE_NETWORKS
from restorecli.networks.ends import FRONTS, HEADS, PACKINGS

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
STATUS = Path("/proc/self/status")


def size(text: str) -> tuple[int, int]:
    """``HEIGHTxWIDTH`` in pixels."""
    height, width = text.split("x")
    return int(height), int(width)


def memory_bytes(field: str) -> int:
    """One line of /proc/self/status: VmRSS (now) or VmHWM (the most so far)."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def has_device(name: str) -> bool:
    """Whether ``name`` can be measured here; says in the results that CUDA was not, if so."""
    if torch.cuda.is_available():
        return True
    print("CUDA: has not been run, there is no CUDA device here")
    return not name.startswith("cuda")


def wait_for(device: str) -> None:
    """CUDA calls return before they finish."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What ``function`` returns in a process of its own, with its own peak of memory."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_answer, args=(there, function, arguments), daemon=True)
    process.start()
    there.close()  # so that a process that dies ends the wait
    try:
        return here.recv()
    finally:
        process.join()


def _answer(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(function(*arguments))


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Which network, and how large; random parameters."""
    parser.add_argument("--network", choices=PICTURE_NETWORKS, default="restormer")
    parser.add_argument("--dim", type=int, default=48)
    parser.add_argument("--num-blocks", type=int, nargs=4, default=[4, 6, 6, 8])
    parser.add_argument("--refinement", type=int, default=4)
    parser.add_argument("--packing", type=int, choices=PACKINGS, default=1)
    parser.add_argument("--head", choices=HEADS, default="residual")
    parser.add_argument("--front", choices=FRONTS, default="none")
    parser.add_argument("--norm", choices=("WithBias", "BiasFree"), default="WithBias")


def network_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Constructor arguments from the options of `add_network_options`."""
    return {
        "dim": options.dim,
        "num_blocks": options.num_blocks,
        "num_refinement_blocks": options.refinement,
        "LayerNorm_type": options.norm,
        "packing": options.packing,
        "head": options.head,
        "front": options.front,
    }


def random_network(options: argparse.Namespace) -> nn.Module:
    """The network of the options, the same at every call."""
    torch.manual_seed(0)
    network: nn.Module = PICTURE_NETWORKS[options.network](**network_settings(options))
    return network.eval()


def machine() -> str:
    """Processor, cores, threads, load and PyTorch, for the head of a result."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    load = psutil.getloadavg()[0]
    return (
        f"{model}, {psutil.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"load {load:.1f}, torch {torch.__version__}"
    )
