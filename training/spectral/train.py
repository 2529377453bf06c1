"""Train a spectral network: ``python -m training.spectral.train csa --data PACK --out DIR``.

Needs torch, numpy, opencv and safetensors only. The learning rate follows ``--minutes`` (warm-up,
then half a cosine), or ``--steps`` if they are over earlier, so a run ends trained however fast the
machine is; it may be stopped and resumed. Samples follow from (seed, step) and the device.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from restorecli.machine.allocator import keep_freed_memory
from restorecli.networks.mst import MSTCassi, MSTPlusPlus, cassi_input, cassi_measurement
from training.spectral.data import (
    Crops,
    between_bands,
    cassi_bands,
    photographed,
    reflectance,
    unpack,
)
from training.spectral.export import write
from training.stepping import EAGER_STEPS, Stepper

FINAL_RATE, WARMUP = 1e-6, 0.02  # of the time
DARKEST = 0.1  # relative errors count fully from here on, and less in the dark
SQUARED_WEIGHT = 4.0  # of the root mean square beside them
SAVE_EVERY_S = 60.0
VALIDATE_EVERY = 6  # with --validate this share of the scenes for training is not trained on


@dataclass(frozen=True, slots=True)
class Kind:
    """A network and its options."""

    network: Callable[..., nn.Module]
    name: str
    options: dict[str, Any] = field(default_factory=dict)


GLMHA = {"attention": "glmha", "preset": "table"}
KINDS = {
    "csa": Kind(MSTPlusPlus, "mst_plus_plus", {"stage": 1}),
    "glmha": Kind(MSTPlusPlus, "mst_plus_plus", {"stage": 1, **GLMHA}),
    "csa2": Kind(MSTPlusPlus, "mst_plus_plus", {"stage": 2}),
    "glmha2": Kind(MSTPlusPlus, "mst_plus_plus", {"stage": 2, **GLMHA}),
    "cassi": Kind(MSTCassi, "mst_cassi", {"num_blocks": [2, 2, 2]}),
    "cassi-glmha": Kind(MSTCassi, "mst_cassi", {"num_blocks": [2, 2, 2], **GLMHA}),
    "cassi1": Kind(MSTCassi, "mst_cassi", {"num_blocks": [1, 1, 1]}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What decides the weights, besides the scenes."""

    kind: str
    minutes: float
    steps: int
    batch: int
    side_px: int
    seed: int
    start: str = ""  # name of the file whose weights it starts from; empty: a regression
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip_norm: float = 0.5
    ema: float = 0.998


def rate_at(progress: float, highest: float) -> float:
    """Learning rate after a share of the time."""
    if progress < WARMUP:
        return highest * (progress + 1e-3) / WARMUP
    rest = (progress - WARMUP) / (1 - WARMUP)
    return FINAL_RATE + (highest - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(rest, 1)))


def start_from_regression(network: MSTPlusPlus, crops: Crops) -> None:
    """Let the untrained network be the best 3×31 matrix: its first features are the result's base.

    Least squares over every eighth pixel of the scenes; the layers after add little at first.
    """
    gram = torch.zeros(3, 3, dtype=torch.float64)
    cross = torch.zeros(31, 3, dtype=torch.float64)
    for roots in crops.scenes:
        cube = reflectance(roots[None, :, ::8, ::8].cpu())
        rgb = photographed(cube, crops.cameras[:1].cpu()).double().flatten(2)[0]  # (3, N)
        gram += rgb @ rgb.mT
        cross += cube.double().flatten(2)[0] @ rgb.mT
    with torch.no_grad():
        network.conv_in.weight.zero_()
        network.conv_in.weight[:, :, 1, 1] = torch.linalg.solve(gram, cross, left=False).float()
        network.conv_out.weight.mul_(0.1)


def start_from(network: nn.Module, path: Path) -> None:
    """Take over another network's weights; of S-MSA, GLMHA keeps the first channels of every head.

    What S-MSA calls ``to_k`` plays the query, so GLMHA's ``to_q`` comes from it and its ``to_k``
    from ``to_q``. What the other does not have stays as it is.
    """
    start, own = safetensors.torch.load_file(path), network.state_dict()
    low_rank = any(".calibration." in key for key in own) > any(
        ".calibration." in key for key in start
    )
    swapped = {"to_q": "to_k", "to_k": "to_q"} if low_rank else {}
    found = {}
    for key, value in own.items():
        *before, name, last = key.split(".")
        source = start.get(".".join([*before, swapped.get(name, name), last]))
        if source is not None and source.shape[1:] == value.shape[1:]:
            heads = len(own.get(".".join([*before, "rescale"]), [1]))
            kept = source.unflatten(0, (heads, -1))[:, : len(value) // heads].flatten(0, 1)
            if kept.shape == value.shape:
                found[key] = kept.float()
    network.load_state_dict({**own, **found})
    print(f"starts from {len(found)} of {len(own)} tensors", flush=True)


class Training(Stepper):
    """A network that learns spectra; the loss is told by its kind."""

    def __init__(
        self,
        recipe: Recipe,
        crops: Crops,
        mask: Tensor,
        device: torch.device,
        start: Path | None = None,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.crops = recipe, crops
        self.kind = KINDS[recipe.kind]
        self.elapsed_s = 0.0
        self.coded = self.kind.network is MSTCassi
        self.mask = mask.to(device)
        self.between = between_bands().to(device)
        network = self.kind.network(**self.kind.options)
        if start is not None:
            start_from(network, start)
        elif isinstance(network, MSTPlusPlus):
            start_from_regression(network, crops)
        network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(network, recipe, device)

    def facts(self) -> dict[str, Any]:
        """Recipe, network and time."""
        kind = {"name": self.kind.name, "options": self.kind.options}
        return {"recipe": asdict(self.recipe), "kind": kind, "elapsed_s": self.elapsed_s}

    def samples(self) -> tuple[Tensor, Tensor]:
        """Those of the coming step: photographs and cubes, or cubes and the mask."""
        size = self.recipe.batch, self.recipe.side_px
        if self.coded:
            return self.crops.coded(self.step, *size, self.mask)
        return self.crops.pairs(self.step, *size)

    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """Photographs (B, 3, p, p) and cubes, or cubes (B, 31, p, p) and mask (p, p) → scalar.

        Of photographs: absolute errors, relative from ``DARKEST`` on, and the root mean square of
        every sample. Of a CASSI: the root mean square of the batch, as MST's authors train.
        """
        if self.coded:
            cube = cassi_bands(first, self.between)
            x = cassi_input(cassi_measurement(cube, second))
            with self.autocast():
                made = self.network(x.contiguous(memory_format=torch.channels_last), second)
            return (made.float() - cube).square().mean().sqrt()
        with self.autocast():
            made = self.network(first.contiguous(memory_format=torch.channels_last))
        error = made.float() - second
        relative = (error.abs() / (second + DARKEST)).mean()
        return relative + SQUARED_WEIGHT * (error.square().mean((1, 2, 3)) + 1e-8).sqrt().mean()

    def psnr(self, scenes: list[NDArray[np.uint8]]) -> float:
        """Mean PSNR in dB of the averaged network over whole scenes, clamped."""
        network, found = self.average.module, []
        for roots in scenes:
            cube = reflectance(torch.from_numpy(roots).to(self.device)).unsqueeze(0)
            with torch.inference_mode():
                if self.coded:
                    cube = cassi_bands(cube, self.between)
                    made = network(cassi_input(cassi_measurement(cube, self.mask)), self.mask)
                else:
                    made = network(photographed(cube, self.crops.cameras[:1]))
            error = (made.clamp(0, 1) - cube).square().mean()
            found.append(-10 * math.log10(float(error)))
        return float(np.mean(found))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.spectral.train", description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--data", type=Path, required=True, help="from training.spectral.data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--steps", type=int, default=1_000_000, help="end after so many")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side", type=int, default=64, help="of a crop, in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="safetensors file whose weights it takes over")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--validate", action="store_true", help="on some of the scenes, left out")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--eager", action="store_true", help="on a GPU: no CUDA graph")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--export", type=Path, help="averaged weights in float16, safetensors")
    return parser.parse_args()


def train(training: Training, args: argparse.Namespace, unseen: list[NDArray[np.uint8]]) -> None:
    """Step until time or steps are over, saving and telling on the way."""
    recipe, path = training.recipe, args.out / "checkpoint.pt"
    before_s = 0.0
    losses: list[Tensor] = []
    if args.resume and path.exists():
        before_s = training.load(path)["elapsed_s"]
    first, recorded = training.step, args.device.startswith("cuda") and not args.eager
    saved = started = time.monotonic()

    def save() -> None:
        training.elapsed_s = before_s + time.monotonic() - started
        training.save(path)
        line: dict[str, float] = {
            "step": training.step,
            "elapsed_s": round(training.elapsed_s, 1),
        }
        if losses:
            line["loss"] = round(float(torch.stack(losses[-50:]).mean()), 5)
        if unseen:
            line["unseen_db"] = round(training.psnr(unseen), 3)
        print(json.dumps(line), flush=True)

    while training.step < recipe.steps:
        now = time.monotonic()
        timed = (before_s + now - started) / (60 * recipe.minutes)
        if timed >= 1:
            break
        samples = training.samples()
        if recorded and training.step == first + EAGER_STEPS:
            training.try_to_record(*samples)
        progress = max(timed, training.step / recipe.steps)
        loss = training.move(*samples, rate_at(progress, recipe.learning_rate))
        if training.step % 20 == 0:
            losses.append(loss)
        if now - saved > SAVE_EVERY_S:
            save()
            saved = now
    save()


def main() -> None:
    """Train until the minutes are over, and write what was learnt."""
    keep_freed_memory()
    args = parsed()
    device = torch.device(args.device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    scenes, mask = unpack(args.data)
    names = sorted(scenes)
    left_out = set(names[VALIDATE_EVERY // 2 :: VALIDATE_EVERY]) if args.validate else set()
    recipe = Recipe(
        kind=args.kind,
        minutes=args.minutes,
        steps=args.steps,
        batch=args.batch,
        side_px=args.side,
        seed=args.seed,
        start=args.start.name if args.start else "",
        learning_rate=args.rate,
    )
    seen = (scenes[name] for name in names if name not in left_out)
    training = Training(recipe, Crops(seen, args.seed, args.device), mask, device, args.start)
    args.out.mkdir(parents=True, exist_ok=True)
    train(training, args, [scenes[name] for name in sorted(left_out)])
    if args.export:
        write(args.out / "checkpoint.pt", args.export)


if __name__ == "__main__":
    main()
