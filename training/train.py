"""Train a compact network: ``python -m training.train derain --photos DIR --out runs/derain``.

Needs torch, numpy, opencv and safetensors only. Deterministic on a CPU for a given thread count,
seed and number of steps: every sample and every step follows from (seed, step) alone, so a run that
was interrupted and resumed equals one that was not. ``--minutes`` bounds the time, and where it is
given the learning rate falls with whatever is nearer to its end, the steps or the time.

On a GPU a step is recorded once as a CUDA graph and replayed: the networks are small, and most of
the time would go into starting their kernels.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from restorecli.machine.allocator import keep_freed_memory
from restorecli.networks import NETWORKS
from restorecli.networks.loss import FFT_WEIGHT, balanced, losses_of, root_mean_squares_of
from training.data import Batches, add_sources, load_pairs, load_photographs
from training.stepping import EAGER_STEPS, Stepper
from training.tasks import NETWORKS as KINDS
from training.tasks import TASKS, task_of

LOG_EVERY = 50  # steps
SAVE_EVERY_S = 120
UNSEEN_STEP = 10**9  # no run is as long, so its samples are new
UNSEEN_BATCHES = 4
LOSSES = ("absolute", "squared")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights, besides the photographs."""

    task: str
    steps: int
    seed: int = 0
    network: str = ""  # one of training.tasks.NETWORKS; empty: the task's own
    start_sha256: str = ""  # of the file whose weights it starts from; empty: random weights
    patch_px: int = 128
    batch: int = 4
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-6
    warmup_steps: int = 300
    decay_from: float = 0.3  # share of the run after which the cosine sets in
    weight_decay: float = 1e-4
    clip_norm: float = 0.5
    ema: float = 0.999
    loss: str = "absolute"  # or "squared": root mean square errors, without amplitudes
    fft_weight: float = FFT_WEIGHT
    balance: float = 0.0  # see networks.loss.balanced; 0: every sample counts by its error


def learning_rate_at(step: int, recipe: Recipe, progress: float | None = None) -> float:
    """Linear warm-up, a plateau, then half a cosine down to the final rate.

    ``progress`` is the share of the run that is done; by default that of its steps.
    """
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    done = step / recipe.steps if progress is None else progress
    fallen = min(1.0, max(0.0, (done - recipe.decay_from) / (1 - recipe.decay_from)))
    span = recipe.learning_rate - recipe.final_learning_rate
    return recipe.final_learning_rate + span * 0.5 * (1 + math.cos(math.pi * fallen))


class Training(Stepper):
    """A network that learns to undo what spoiled its samples."""

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        start: Mapping[str, Tensor] | None = None,
        *,
        compiled: bool = False,
    ) -> None:
        torch.manual_seed(recipe.seed)
        task = task_of(recipe.task, recipe.network)
        self.recipe = recipe
        self.smoothness = task.smoothness
        network = build(task.network, task.options).to(device)
        if start is not None:
            load_what_fits(network, start)
        super().__init__(network, recipe, device)
        self.forward: Callable[..., Any] = self.forward_eager
        if compiled:
            self.forward = torch.compile(self.forward_eager)

    def forward_eager(self, degraded: Tensor) -> tuple[Tensor, Tensor | None]:
        """The restored batch and, of an affine head, the total variation of its maps."""
        with self.autocast():
            if not self.smoothness:
                return self.network(degraded), None
            restored, *maps = self.network.forward_with_maps(degraded)  # type: ignore[operator]
        return restored, sum((variation(m) for m in maps), restored.new_zeros(()))

    def loss(self, degraded: Tensor, clean: Tensor) -> Tensor:
        """Loss of a batch: uint8 (B, 3, p, p) each → scalar, float32."""
        x, y = degraded.float() / 255, clean.float() / 255
        restored, rough = self.forward(x)
        if self.recipe.loss == "squared":
            losses = root_mean_squares_of(restored, y)
        else:
            losses = losses_of(restored, y, self.recipe.fft_weight)
        loss = balanced(losses, self.recipe.balance) if self.recipe.balance else losses.mean()
        return loss if rough is None else loss + self.smoothness * rough

    def advance(self, degraded: Tensor, clean: Tensor, progress: float | None = None) -> Tensor:
        """One optimiser step on uint8 (B, 3, p, p); returns the loss, perhaps not yet computed."""
        return self.move(degraded, clean, learning_rate_at(self.step, self.recipe, progress))

    def facts(self) -> dict[str, Any]:
        """The recipe."""
        return {"recipe": asdict(self.recipe)}

    def psnr(self, batches: Batches) -> tuple[float, float]:
        """PSNR in dB of unseen samples, before and after the averaged network."""
        before: list[Tensor] = []
        after: list[Tensor] = []
        network = self.average.module
        with torch.no_grad():
            for step in range(UNSEEN_STEP, UNSEEN_STEP + UNSEEN_BATCHES):
                x, y = (p.to(self.device).float() / 255 for p in batches[step])
                for found, z in ((before, x), (after, network(x).clamp(0, 1))):
                    found.append(-10 * torch.log10((z - y).square().mean((1, 2, 3)) + 1e-10))
        return float(torch.cat(before).mean()), float(torch.cat(after).mean())


def variation(maps: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, down and across: (B, C, h, w) → scalar."""
    return maps.diff(dim=2).abs().mean() + maps.diff(dim=3).abs().mean()


def load_what_fits(network: nn.Module, start: Mapping[str, Tensor]) -> None:
    """Take from ``start`` every tensor that the network has by name and shape."""
    own = network.state_dict()
    fitting = {k: v for k, v in start.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict({**own, **fitting})
    print(f"starts from {len(fitting)} of {len(own)} tensors", flush=True)


def refuse_other_order(file: Path, options: Mapping[str, Any]) -> None:
    """Exit where ``file`` says that it sorts its channels, and the task's network does not."""
    with safetensors.safe_open(file, "pt") as opened:
        said = opened.metadata() or {}
    sorts = json.loads(said.get("options", "{}")).get(
        "sort_channels", said.get("network") == "hint"
    )
    if sorts and not options.get("sort_channels", True):
        raise SystemExit(
            f"{file} sorts its channels for every picture, and the network of this task does not: "
            "give it one order first (python -m training.ordering)."
        )


def build(name: str, options: Any) -> nn.Module:
    """A network, ready to train."""
    return NETWORKS[name](**options)


def draw_curve(log: Path, picture: Path) -> None:
    """Loss over steps as a PNG, where matplotlib is installed."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(figsize=(8, 4))
    axes.plot([int(row["step"]) for row in rows], [float(row["loss"]) for row in rows])
    axes.set(xlabel="step", ylabel="training loss", yscale="log")
    figure.savefig(picture, dpi=100, bbox_inches="tight")
    plt.close(figure)


class Log:
    """Writes a line of ``log.csv`` every ``LOG_EVERY`` steps; forgets what a resumed run redoes."""

    def __init__(self, path: Path, first_step: int) -> None:
        self.path = path
        kept = ["step,loss,learning_rate,elapsed_s"]
        if first_step and path.exists():
            rows = path.read_text().splitlines()[1:]
            kept += [row for row in rows if int(row.partition(",")[0]) <= first_step]
        path.write_text("\n".join(kept) + "\n")
        self.losses: list[Tensor] = []
        self.started = time.perf_counter()

    def add(self, step: int, loss: Tensor, rate: float) -> None:
        """Note one step."""
        self.losses.append(loss)
        if step % LOG_EVERY:
            return
        mean = float(torch.stack(self.losses).mean())
        self.losses.clear()
        elapsed = time.perf_counter() - self.started
        row = f"{step},{mean:.6f},{rate:.2e},{elapsed:.1f}"
        with self.path.open("a") as file:
            file.write(row + "\n")
        if step % (10 * LOG_EVERY) == 0 or step == LOG_EVERY:
            print(row, flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Where a training takes its pictures, where it writes, and how long it may take."""

    out: Path
    photos: tuple[Path, ...]
    device: torch.device
    pairs: tuple[Path, ...] = ()
    minutes: float = math.inf
    resume: bool = False
    workers: int = 0
    compiled: bool = False
    recorded: bool = False
    start: Mapping[str, Tensor] | None = None


def train(recipe: Recipe, run: Run) -> Training:
    """Train until the last step or the time bound; checkpoint, log and curve go to ``run.out``."""
    run.out.mkdir(parents=True, exist_ok=True)
    checkpoint = run.out / "checkpoint.pt"
    batches = Batches(
        [picture for source in run.photos for picture in load_photographs(source)],
        task_of(recipe.task, recipe.network),
        recipe.seed,
        [pair for source in run.pairs for pair in load_pairs(source)],
        patch_px=recipe.patch_px,
        size=recipe.batch,
    )
    training = Training(recipe, run.device, run.start, compiled=run.compiled)
    if run.resume and checkpoint.exists():
        training.load(checkpoint)
    (run.out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n")
    log = Log(run.out / "log.csv", training.step)
    started = saved = time.perf_counter()
    steps = range(training.step, recipe.steps)
    for degraded, clean in batches.ahead(steps, run.workers, pin=run.device.type == "cuda"):
        now = time.perf_counter()
        timed = 0.0 if math.isinf(run.minutes) else (now - started) / (run.minutes * 60)
        if timed >= 1:
            break
        if run.recorded and training.step == steps.start + EAGER_STEPS:
            training.try_to_record(degraded, clean)
        progress = max(training.step / recipe.steps, timed)
        loss = training.advance(degraded, clean, progress)
        log.add(training.step, loss, learning_rate_at(training.step, recipe, progress))
        if now - saved > SAVE_EVERY_S:
            training.save(checkpoint)
            saved = now
    training.save(checkpoint)
    draw_curve(run.out / "log.csv", run.out / "curve.png")
    before, after = training.psnr(batches)
    print(f"{recipe.task}: step {training.step}, unseen {before:.2f} → {after:.2f} dB", flush=True)
    return training


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    found.add_argument("task", choices=sorted(TASKS))
    add_sources(found)
    found.add_argument("--out", type=Path, required=True, help="folder for checkpoint and log")
    for field in fields(Recipe)[1:]:
        if field.name != "start_sha256":
            kind = {"int": int, "float": float, "str": str}[str(field.type)]
            default = 16_000 if field.name == "steps" else field.default
            found.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=default)
    found.add_argument("--minutes", type=float, default=math.inf, help="end after this time")
    found.add_argument("--start", type=Path, help="safetensors file to start from, where it fits")
    found.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    found.add_argument("--workers", type=int, default=1, help="processes that make samples")
    found.add_argument("--compile", action="store_true", help="on a CPU: slow start, fast steps")
    found.add_argument("--eager", action="store_true", help="on a GPU: no CUDA graph")
    found.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    found.add_argument("--export", type=Path, help="averaged weights in float16, safetensors")
    return found


def main() -> None:
    """Parse the command line and train."""
    keep_freed_memory()
    args = parser().parse_args()
    if args.network and args.network not in KINDS:
        raise SystemExit(f"--network must be one of {', '.join(sorted(KINDS))}.")
    start, digest = None, ""
    if args.start:
        data = args.start.read_bytes()
        start, digest = safetensors.torch.load(data), hashlib.sha256(data).hexdigest()
        refuse_other_order(args.start, task_of(args.task, args.network).options)
    names = {field.name for field in fields(Recipe)} - {"start_sha256"}
    if args.loss not in LOSSES:
        raise SystemExit(f"--loss must be one of {', '.join(LOSSES)}.")
    recipe = Recipe(**{name: getattr(args, name) for name in names}, start_sha256=digest)
    run = Run(
        out=args.out,
        photos=tuple(args.photos),
        pairs=tuple(args.pairs),
        device=torch.device(args.device),
        minutes=args.minutes,
        resume=args.resume,
        workers=min(args.workers, os.cpu_count() or 1),
        compiled=args.compile,
        recorded=args.device.startswith("cuda") and not args.eager,
        start=start,
    )
    if run.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    training = train(recipe, run)
    if args.export:
        half = {k: v.half().contiguous() for k, v in training.average.module.state_dict().items()}
        metadata = {"recipe": json.dumps(asdict(recipe)), "steps_done": str(training.step)}
        safetensors.torch.save_file(half, args.export, metadata)


if __name__ == "__main__":
    main()
