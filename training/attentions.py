"""Which attention learns most in the same time? ``python -m training.attentions --photos DIR …``.

Trains a small Restormer with its own attention, with Linformer, Performer, Reformer and GLMHA from
the same numbers, on the same noisy samples, one after the other, and prints the PSNR of each on
CBSD68 with white noise of σ 25. Time is the processor's own (``--seconds`` each), so other work on
the machine changes nothing but the end of the run.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from restorecli.machine.allocator import keep_freed_memory
from restorecli.networks.glmha_restormer import GLMHARestormer
from restorecli.networks.loss import FFT_WEIGHT, loss_of
from restorecli.networks.other_attentions import with_attention
from restorecli.networks.restormer import Restormer
from training.data import Batches, load_photographs
from training.stepping import Stepper
from training.tasks import TASKS
from training.testsets import CLEAN

SMALL: dict[str, Any] = {"dim": 16, "num_blocks": [1, 1, 2, 2], "num_refinement_blocks": 1}
KINDS = ("csa", "linformer", "performer", "reformer", "glmha text", "glmha table")
SIGMA, SIDE_PX = 25, 256  # of the test: noise in levels, and the largest crop
WARMUP = 0.05  # share of the time


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What decides a step."""

    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip_norm: float = 0.5
    ema: float = 0.98


def network_of(kind: str) -> nn.Module:
    """A small Restormer with one attention; one seed, so equal numbers where shapes are equal."""
    torch.manual_seed(0)
    if kind.startswith("glmha"):
        return GLMHARestormer(preset=kind.removeprefix("glmha "), **SMALL)
    network = Restormer(**SMALL)
    return network if kind == "csa" else with_attention(network, kind)  # type: ignore[arg-type]


class Training(Stepper):
    """A network that learns to take noise away."""

    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """Noisy and clean, uint8 (B, 3, p, p) each → scalar."""
        x, y = first.float() / 255, second.float() / 255
        return loss_of(self.network(x), y, FFT_WEIGHT)


def trained(kind: str, batches: Batches, seconds: float) -> tuple[nn.Module, int]:
    """The averaged network after ``seconds`` of processor time, and how many steps that took."""
    training = Training(network_of(kind), Settings(), torch.device("cpu"))
    spent = 0.0
    while spent < seconds:
        samples = batches[training.step]  # made outside the time: they cost every kind the same
        started = time.process_time()
        done = spent / seconds
        falling = 0.5 * (1 + math.cos(math.pi * done))
        training.move(*samples, 1e-6 + 1e-3 * min(1, (done + 1e-3) / WARMUP) * falling)
        spent += time.process_time() - started
    return training.average.module.eval(), training.step


def psnr(network: nn.Module, pictures: list[NDArray[np.uint8]]) -> tuple[float, float]:
    """Mean PSNR in dB of the noisy and of the restored middles, uint8 noise drawn by seed 0."""
    rng, scores = np.random.default_rng(0), []
    for picture in pictures:
        height, width = (min(side, SIDE_PX) // 8 * 8 for side in picture.shape[:2])
        clean = picture[:height, :width].astype(np.float32) / 255
        noise = SIGMA / 255 * rng.standard_normal(clean.shape).astype(np.float32)
        noisy = np.rint((clean + noise).clip(0, 1) * 255) / 255
        x, y = (
            torch.from_numpy(p.transpose(2, 0, 1)[None].astype(np.float32)) for p in (noisy, clean)
        )
        with torch.inference_mode():
            made = network(x).clamp(0, 1)
        scores.append([-10 * math.log10(float((z - y).square().mean())) for z in (x, made)])
    before, after = np.mean(scores, 0)
    return float(before), float(after)


def main() -> None:
    """Train and score each; print a row for each."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(prog="python -m training.attentions", description=__doc__)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="as training.train")
    parser.add_argument("--data", type=Path, required=True, help="folder of the test sets")
    parser.add_argument("--seconds", type=float, default=180, help="of training, each attention")
    parser.add_argument("--pictures", type=int, default=68, help="of CBSD68, the first so many")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--patch-px", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    batches = Batches(
        [picture for source in args.photos for picture in load_photographs(source)],
        TASKS["denoise"],
        0,
        patch_px=args.patch_px,
        size=args.batch,
    )
    pictures = load_photographs(args.data / CLEAN)[: args.pictures]
    print(f"torch {torch.__version__}, 1 thread, {args.seconds:g} s of processor time each\n")
    print(f"| attention | parameters | steps | CBSD68, σ {SIGMA} |\n|---|---|---|---|")
    for kind in args.kinds:
        network, steps = trained(kind, batches, args.seconds)
        before, after = psnr(network, pictures)
        count = sum(p.numel() for p in network.parameters())
        print(f"| {kind} | {count:,} | {steps} | {before:.2f} → {after:.2f} |", flush=True)


if __name__ == "__main__":
    main()
