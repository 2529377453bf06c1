"""What attention between channels costs: CSA, Linformer, Performer, Reformer and GLMHA.

``python -m benchmarks.attention`` prints, beside Tables 1-4 of the GLMHA paper, parameters and
multiply-adds at 256×256 (convolutions and linear maps, and products apart), and the time and the
memory of one forward pass on this machine at ``--size``, each in a process of its own: time of the
processor on one thread, so that other work on the machine changes it little.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import in_fresh_process, machine, memory_bytes
from restorecli.networks import NETWORKS
from restorecli.networks.glmha_restormer import GuidedLowRankAttention
from restorecli.networks.mst import MSTCassi
from restorecli.networks.mst_attention import GuidedLowRankSpectralAttention, SpectralAttention
from restorecli.networks.other_attentions import with_attention
from restorecli.networks.restormer import ChannelAttention

COUNTED_PX = 256
# Parameters in millions and multiply-adds in 10^9 as printed in Tables 1 to 4; 3 and 4 have one and
# the same Restormer, but two of its variant. "–": not printed in a form that was read.
PRINTED = {
    ("mst_plus_plus", "csa"): "1.62 M, 23.05 G",
    ("mst_plus_plus", "glmha"): "1.60 M, 22.13 G",
    ("mst_cassi", "csa"): "2.03 M, 28.15 G",
    ("mst_cassi", "glmha"): "2.00 M, 27.01 G",
    ("restormer", "csa"): "26.13 M, 140.99 G",
    ("restormer", "glmha"): "25.78 M, 134.53 G and 25.76 M, 133.27 G",
}
ATTENTIONS = (
    ChannelAttention,
    SpectralAttention,
    GuidedLowRankAttention,
    GuidedLowRankSpectralAttention,
)
KINDS = ("csa", "linformer", "performer", "reformer", "glmha")


@dataclass(frozen=True, slots=True)
class Subject:
    """A network and an attention."""

    name: str
    kind: str

    def build(self) -> nn.Module:
        """The full-size network, random parameters."""
        torch.manual_seed(0)
        options: dict[str, Any] = {"num_blocks": (4, 7, 5)} if self.name == "mst_cassi" else {}
        if self.kind == "glmha":
            if self.name == "restormer":
                return NETWORKS["glmha_restormer"](preset="table").eval()
            options |= {"attention": "glmha", "preset": "table"}
        network: nn.Module = NETWORKS[self.name](**options).eval()
        if self.kind in {"csa", "glmha"}:
            return network
        return with_attention(network, self.kind)  # type: ignore[arg-type]


def inputs_for(network: nn.Module, side: int) -> tuple[Tensor, ...]:
    """What the network takes at one size."""
    bands = 28 if isinstance(network, MSTCassi) else 3
    x = torch.rand(1, bands, side, side)
    return (x, torch.rand(side, side)) if bands == 28 else (x,)


def products(kind: str, channels: int, heads: int, kept: int) -> float:
    """Multiply-adds a pixel of attention's products with the default settings of each."""
    per_head = channels // heads
    half = max(1, round(per_head / 2))
    return {
        "csa": 2 * channels * per_head,
        "glmha": 2 * channels * kept,
        "linformer": 4 * channels * half,
        "performer": 4 * channels * half,
        "reformer": 2 * channels + 4 * channels * math.ceil(per_head / 2),
    }[kind]


@dataclass(frozen=True, slots=True)
class Counted:
    """A network with CSA or GLMHA: what other attentions leave as it is, and where they stand."""

    parameters: int
    layers_gmac: float
    attentions: tuple[tuple[str, int, int, int, int], ...]  # kind, channels, heads, kept, pixels


@cache
def counted(name: str, kind: str) -> Counted:
    """Count the layers of one forward pass at 256×256."""
    network = Subject(name, kind).build()
    macs, attentions = [0.0], []

    def count_layer(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if isinstance(module, nn.ConvTranspose2d):
            macs[0] += inputs[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            macs[0] += output.numel() * module.in_features
        elif isinstance(module, nn.Conv2d):
            macs[0] += output.numel() * module.weight[0].numel()

    def note_attention(module: Any, inputs: Any, output: Tensor) -> None:
        kept = 0
        if isinstance(module, GuidedLowRankAttention):
            kept = module.kv.out_channels // 2 // module.heads
        elif isinstance(module, GuidedLowRankSpectralAttention):
            kept = module.to_v.out_features // module.heads
        own = "glmha" if kept else "csa"
        channels, pixels = inputs[0].shape[1], inputs[0][0, 0].numel()
        attentions.append((own, channels, module.heads, kept, pixels))

    for module in network.modules():
        if isinstance(module, ATTENTIONS):
            module.register_forward_hook(note_attention)
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.register_forward_hook(count_layer)
    with torch.inference_mode():
        network(*inputs_for(network, COUNTED_PX))
    parameters = sum(p.numel() for p in network.parameters())
    return Counted(parameters, macs[0] / 1e9, tuple(attentions))


def counts(subject: Subject) -> tuple[int, float, float]:
    """Parameters, and multiply-adds in 10⁹ of layers and of products, at 256×256."""
    kind = subject.kind
    found = counted(subject.name, "glmha" if kind == "glmha" else "csa")
    parameters, product = found.parameters, 0.0
    for own, channels, heads, kept, pixels in found.attentions:
        attending = own if kind in {"csa", "glmha"} else kind
        product += pixels * products(attending, channels, heads, kept)
        if kind == "linformer":
            per_head = channels // heads
            parameters += max(1, round(per_head / 2)) * per_head
    return parameters, found.layers_gmac, product / 1e9


def measured(subject: Subject, side: int, repeats: int) -> tuple[float, float, int]:
    """Median and least processor time of a forward pass, seconds, and the bytes that it adds."""
    torch.set_num_threads(1)
    network = subject.build()
    inputs = inputs_for(network, side)
    before = memory_bytes("VmRSS")
    seconds = []
    with torch.inference_mode():
        for _ in range(repeats):
            start = time.process_time()
            network(*inputs)
            seconds.append(time.process_time() - start)
    return statistics.median(seconds), min(seconds), memory_bytes("VmHWM") - before


def line(subject: Subject, side: int, repeats: int, run: Callable[..., Any]) -> str:
    """One row of the table."""
    parameters, layers, product = counts(subject)
    cells = [subject.name, subject.kind, f"{parameters:,}", f"{layers:.2f}", f"{product:.3f}"]
    cells.append(PRINTED.get((subject.name, subject.kind), "–"))
    if repeats:
        median_s, least_s, more_bytes = run(measured, subject, side, repeats)
        cells += [f"{median_s:.2f}", f"{least_s:.2f}", f"{more_bytes / 1e6:.0f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention", description=__doc__)
    parser.add_argument("--size", type=int, default=128, help="side of the timed picture, pixels")
    parser.add_argument("--repeats", type=int, default=3, help="0: counts only")
    parser.add_argument(
        "--networks", nargs="+", default=["mst_plus_plus", "mst_cassi", "restormer"]
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    args = parser.parse_args()
    print(f"{machine()}; {args.size}×{args.size} timed, {args.repeats} runs each\n")
    head = ["network", "attention", "parameters", "layers, GMAC", "products, GMAC", "paper"]
    head += ["CPU, s", "least", "memory, MB"] if args.repeats else []
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    row = partial(line, side=args.size, repeats=args.repeats, run=in_fresh_process)
    for name in args.networks:
        for kind in args.kinds:
            print(row(Subject(name, kind)), flush=True)


if __name__ == "__main__":
    main()
