"""Train a compact network: ``python -m training.train derain --photos DIR --out runs/derain``.

Deterministic for a given device, thread count, seed and step count: every sample and every step
follows from (seed, step) alone, so a run that was interrupted and resumed equals one that was not.
Minutes only bound the time; the schedule follows ``--steps``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from restorecli.machine.allocator import keep_freed_memory
from restorecli.networks import NETWORKS
from restorecli.networks.loss import FFT_WEIGHT, loss_of
from training.data import Batches, load_pairs, load_photographs
from training.tasks import NETWORKS as KINDS
from training.tasks import SMALL_FIRST, TASKS, Phases, task_of


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights, besides the photographs."""

    task: str
    steps: int
    seed: int = 0
    network: str = ""  # one of training.tasks.NETWORKS; empty: the task's own
    start_sha256: str = ""  # of the file whose weights it starts from; empty: random weights
    phases: Phases = SMALL_FIRST
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-6
    warmup_steps: int = 300
    decay_from: float = 0.3  # share of the steps after which the cosine sets in
    weight_decay: float = 1e-4
    clip_norm: float = 0.5
    ema: float = 0.999
    fft_weight: float = FFT_WEIGHT


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """Linear warm-up, a plateau, then half a cosine down to the final rate."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    start = recipe.decay_from * recipe.steps
    progress = min(1.0, max(0.0, (step - start) / (recipe.steps - start)))
    span = recipe.learning_rate - recipe.final_learning_rate
    return recipe.final_learning_rate + span * 0.5 * (1 + math.cos(math.pi * progress))


def phase_at(step: int, recipe: Recipe) -> tuple[int, int]:
    """Patch side in pixels and batch size of a step."""
    for share, patch_px, batch in recipe.phases:
        if step < share * recipe.steps:
            return patch_px, batch
    return recipe.phases[-1][1:]


class Training:
    """A network, its average and its optimiser, which move one step at a time."""

    def __init__(
        self, recipe: Recipe, device: torch.device, start: Mapping[str, Tensor] | None = None
    ) -> None:
        torch.manual_seed(recipe.seed)
        task = task_of(recipe.task, recipe.network)
        self.recipe = recipe
        self.device = device
        self.network = build(task.network, task.options).to(device)
        self.average = build(task.network, task.options).to(device)
        if start is not None:
            self.network.load_state_dict(start)
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=recipe.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.step = 0
        self.bf16 = device.type == "cuda" or torch.backends.cpu.get_cpu_capability() == "AMX"

    def advance(self, degraded: Tensor, clean: Tensor) -> float:
        """One optimiser step; returns the loss."""
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, recipe)
        degraded = degraded.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        clean = clean.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            restored = self.network(degraded)
        loss = loss_of(restored, clean, recipe.fft_weight)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip_norm)
        self.optimizer.step()
        momentum = min(recipe.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.network.parameters()), 1 - momentum
            )
        self.step += 1
        return loss.item()

    def save(self, path: Path) -> None:
        """Write everything needed to go on, in place of ``path`` only when complete."""
        partial = path.with_suffix(".partial")
        state = {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Go on from ``path``. The recipe may differ in its number of steps."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def build(name: str, options: Any) -> nn.Module:
    """A network in channels-last layout, ready to train."""
    network = NETWORKS[name](**options)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def draw_curve(log: Path, picture: Path) -> None:
    """Loss over steps as a PNG."""
    import matplotlib.pyplot as plt

    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(figsize=(8, 4))
    axes.plot([int(row["step"]) for row in rows], [float(row["loss"]) for row in rows])
    axes.set(xlabel="step", ylabel="training loss", yscale="log")
    figure.savefig(picture, dpi=100, bbox_inches="tight")
    plt.close(figure)


def train(
    recipe: Recipe,
    photos: Path,
    out: Path,
    device: torch.device,
    minutes: float,
    *,
    resume: bool,
    pairs: Path | None = None,
    start: Mapping[str, Tensor] | None = None,
) -> Training:
    """Run until the last step or the time bound; checkpoint, log and curve go to ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, log = out / "checkpoint.pt", out / "log.csv"
    training = Training(recipe, device, start)
    if resume and checkpoint.exists():
        training.load(checkpoint)
    else:
        log.write_text("step,loss,learning_rate,patch_px,elapsed_s\n")
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n")
    batches = Batches(
        load_photographs(photos),
        TASKS[recipe.task],
        recipe.seed,
        load_pairs(pairs) if pairs else None,
    )
    first = training.step
    plan = ((step, *phase_at(step, recipe)[::-1]) for step in range(first, recipe.steps))
    started = saved = time.perf_counter()
    losses: list[float] = []
    for degraded, clean in batches.ahead(plan):
        losses.append(training.advance(degraded, clean))
        now = time.perf_counter()
        if training.step % 50 == 0:
            row = (
                training.step,
                f"{sum(losses) / len(losses):.6f}",
                f"{learning_rate_at(training.step, recipe):.2e}",
                degraded.shape[-1],
                f"{now - started:.1f}",
            )
            with log.open("a", newline="") as file:
                csv.writer(file).writerow(row)
            print(*row, flush=True)
            losses.clear()
        if now - saved > 120:
            training.save(checkpoint)
            saved = now
        if now - started > minutes * 60:
            break
    training.save(checkpoint)
    draw_curve(log, out / "curve.png")
    return training


def main() -> None:
    """Parse the command line and train."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--photos", type=Path, required=True, help="folder of clean photographs")
    parser.add_argument("--pairs", type=Path, help="real pairs: a folder with input/ and target/")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and log")
    parser.add_argument("--steps", type=int, default=16_000, help="length of the schedule")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--network", choices=sorted(KINDS), default="", help="not the task's own")
    parser.add_argument(
        "--start", type=Path, help="safetensors file of the same network to start from"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    args = parser.parse_args()
    start, digest = None, ""
    if args.start:
        data = args.start.read_bytes()
        start, digest = safetensors.torch.load(data), hashlib.sha256(data).hexdigest()
    recipe = Recipe(
        task=args.task,
        steps=args.steps,
        seed=args.seed,
        network=args.network,
        start_sha256=digest,
        phases=TASKS[args.task].phases,
    )
    device = torch.device(args.device)
    train(
        recipe,
        args.photos,
        args.out,
        device,
        args.minutes,
        resume=args.resume,
        pairs=args.pairs,
        start=start,
    )


if __name__ == "__main__":
    main()
