"""Does the memory formula hold? Predicted against measured peak: ``python -m benchmarks.memory``.

Every line is a process of its own. The peak is the operating system's figure above what the
process held when the image was there; the image and the result are not counted, as in the formula.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.common import (
    DTYPES,
    add_network_options,
    in_fresh_process,
    machine,
    memory_bytes,
    random_network,
    size,
)
from restorecli.machine.allocator import give_back_freed_memory, keep_freed_memory
from restorecli.networks.strips import resident_bytes, restored_rows


def main() -> None:
    """Print one line for each size, strip height and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_network_options(parser)
    parser.add_argument("--sizes", type=size, nargs="+", default=[(512, 512), (1024, 1024)])
    parser.add_argument("--strip-rows", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    options = parser.parse_args()
    ends = f"packing {options.packing}, head {options.head}, front {options.front}"
    print(f"{options.network} dim {options.dim}, {ends}, {options.dtype}; {machine()}")
    print(f"{'size':>11} {'rows':>5} {'threads':>7} {'predicted MB':>13} {'measured MB':>12} error")
    for plane in options.sizes:
        for rows in options.strip_rows:
            for threads in options.threads:
                predicted, measured = in_fresh_process(peak, options, plane, rows, threads)
                print(
                    f"{f'{plane[0]}x{plane[1]}':>11} {rows:5} {threads:7} {predicted / 1e6:13.1f} "
                    f"{measured / 1e6:12.1f} {predicted / measured - 1:+5.0%}",
                    flush=True,
                )


def peak(
    options: argparse.Namespace, plane: tuple[int, int], rows: int, threads: int
) -> tuple[int, int]:
    """Predicted and measured bytes of one evaluation."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    network, dtype = random_network(options), DTYPES[options.dtype]
    evaluate(network, torch.rand(3, 16, 16), rows, dtype)  # what is set up once
    x = torch.rand(3, *plane)
    give_back_freed_memory()
    start = memory_bytes("VmRSS")
    evaluate(network, x, rows, dtype)
    predicted = resident_bytes(
        network, *plane, strip_rows=rows, bytes_per_value=dtype.itemsize, workers=threads
    )
    return predicted, memory_bytes("VmHWM") - start


def evaluate(network: torch.nn.Module, x: torch.Tensor, rows: int, dtype: torch.dtype) -> None:
    """Restore ``x`` (C, H, W) and drop the result."""
    for _ in restored_rows(
        network, lambda top, bottom: x[:, top:bottom], x.shape[1:], strip_rows=rows, dtype=dtype
    ):
        pass


if __name__ == "__main__":
    main()
