"""Train a spectral network: ``python -m training.spectral.train csa --data cave.zip --out DIR``.

The learning rate follows ``--minutes`` (warm-up, then half a cosine), so a run ends trained however
fast the machine is; it may be stopped and resumed. Samples follow from (seed, step).
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
import scipy.io
import torch
from torch import Tensor, nn

from restorecli.networks.mst import MSTCassi, MSTPlusPlus, cassi_input, cassi_measurement
from training.spectral.data import HELD_OUT, Crops, cassi_bands, photographed, unpack

RATE, FINAL_RATE, WARMUP = 1e-3, 1e-6, 0.02  # of the time
CLIP_NORM, AVERAGE = 0.5, 0.998
DARKEST = 0.1  # relative errors count fully from here on, and less in the dark
SAVE_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A network and its options."""

    network: Callable[..., nn.Module]
    name: str
    options: dict[str, Any] = field(default_factory=dict)


KINDS = {
    "csa": Kind(MSTPlusPlus, "mst_plus_plus", {"stage": 1}),
    "glmha": Kind(
        MSTPlusPlus, "mst_plus_plus", {"stage": 1, "attention": "glmha", "preset": "table"}
    ),
    "csa2": Kind(MSTPlusPlus, "mst_plus_plus", {"stage": 2}),
    "glmha2": Kind(
        MSTPlusPlus, "mst_plus_plus", {"stage": 2, "attention": "glmha", "preset": "table"}
    ),
    "cassi": Kind(MSTCassi, "mst_cassi", {"num_blocks": [1, 1, 1]}),
}


def rate_at(progress: float) -> float:
    """Learning rate after a share of the time."""
    if progress < WARMUP:
        return RATE * (progress + 1e-3) / WARMUP
    rest = (progress - WARMUP) / (1 - WARMUP)
    return FINAL_RATE + (RATE - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(rest, 1)))


def start_from_regression(network: MSTPlusPlus, crops: Crops) -> None:
    """Let the untrained network be the best 3×31 matrix: its first features are the result's base.

    Least squares over every eighth pixel of the scenes; the layers after add little at first.
    """
    gram = torch.zeros(3, 3, dtype=torch.float64, device=crops.scenes.device)
    cross = torch.zeros(31, 3, dtype=torch.float64, device=crops.scenes.device)
    for roots in crops.scenes:
        cube = (roots[None, :, ::8, ::8].float() / 255).square()
        rgb = photographed(cube, crops.cameras[:1]).double().flatten(2)[0]  # (3, N)
        gram += rgb @ rgb.mT
        cross += cube.double().flatten(2)[0] @ rgb.mT
    with torch.no_grad():
        network.conv_in.weight.zero_()
        network.conv_in.weight[:, :, 1, 1] = torch.linalg.solve(gram, cross, left=False).float()
        network.conv_out.weight.mul_(0.1)


class Trainer:
    """A network, its average and its optimiser."""

    def __init__(self, kind: Kind, crops: Crops, device: str, mask: Tensor | None) -> None:
        torch.manual_seed(0)
        self.kind, self.crops, self.mask, self.device = kind, crops, mask, device
        self.network = kind.network(**kind.options).to(device)
        if isinstance(self.network, MSTPlusPlus):
            start_from_regression(self.network, crops)
        self.average = kind.network(**kind.options).to(device)
        self.average.load_state_dict(self.network.state_dict())
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=1e-4, fused=True
        )
        self.step, self.elapsed_s, self.losses = 0, 0.0, [0.0]

    def loss(self, batch: int, side_px: int) -> Tensor:
        """Of the samples of this step: absolute errors, relative from ``DARKEST`` on."""
        bf16 = self.device.startswith("cuda")
        if self.mask is None:
            rgb, cube = self.crops.pairs(self.step, batch, side_px)
            with torch.autocast(self.device, torch.bfloat16, enabled=bf16):
                result = self.network(rgb.contiguous(memory_format=torch.channels_last))
            return ((result.float() - cube).abs() / (cube + DARKEST)).mean()
        cube, chance = self.crops.cubes(self.step, batch, side_px)
        cube = cassi_bands(cube)
        top, left = (
            int(torch.randint(size - side_px + 1, (1,), generator=chance))
            for size in self.mask.shape
        )
        mask = self.mask[top : top + side_px, left : left + side_px]
        x = cassi_input(cassi_measurement(cube, mask))
        with torch.autocast(self.device, torch.bfloat16, enabled=bf16):
            result = self.network(x.contiguous(memory_format=torch.channels_last), mask)
        return (result.float() - cube).square().mean().sqrt()

    def advance(self, batch: int, side_px: int, progress: float) -> None:
        """One optimiser step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(progress)
        loss = self.loss(batch, side_px)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        self.optimizer.step()
        momentum = min(AVERAGE, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.network.parameters()), 1 - momentum
            )
        self.step += 1
        if self.step % 20 == 0:
            self.losses.append(loss.item())

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        """Write everything needed to go on, in place of ``path`` only when complete."""
        partial = path.with_suffix(".partial")
        state = {
            "settings": settings,
            "kind": {"name": self.kind.name, "options": self.kind.options},
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Go on from ``path``."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the weights, besides the scenes."""

    kind: str
    minutes: float
    batch: int
    side_px: int
    seed: int


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.spectral.train", description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--data", type=Path, required=True, help="from training.spectral.data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side", type=int, default=64, help="of a crop, in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mask", type=Path, help="of a CASSI, .mat with a variable `mask`")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Train until the minutes are over, saving on the way."""
    args = parsed()
    kind = KINDS[args.kind]
    mask = None
    if kind.network is MSTCassi:
        if args.mask is None:
            raise SystemExit("a CASSI network needs --mask")
        array = np.asarray(scipy.io.loadmat(args.mask)["mask"], dtype=np.float32)
        mask = torch.from_numpy(array).to(args.device)
    scenes = unpack(args.data)
    names = sorted(set(scenes) - set(HELD_OUT))
    crops = Crops((scenes[name] for name in names), args.seed, args.device)
    trainer = Trainer(kind, crops, args.device, mask)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "checkpoint.pt"
    settings = asdict(Settings(args.kind, args.minutes, args.batch, args.side, args.seed))
    if args.resume and path.exists():
        trainer.load(path)
    saved = started = time.monotonic() - trainer.elapsed_s
    while trainer.elapsed_s < 60 * args.minutes:
        trainer.advance(args.batch, args.side, trainer.elapsed_s / (60 * args.minutes))
        trainer.elapsed_s = time.monotonic() - started
        if trainer.elapsed_s - (saved - started) > SAVE_EVERY_S:
            saved = time.monotonic()
            trainer.save(path, settings)
            line = {
                "step": trainer.step,
                "elapsed_s": round(trainer.elapsed_s, 1),
                "loss": round(sum(trainer.losses[-50:]) / len(trainer.losses[-50:]), 5),
            }
            print(json.dumps(line), flush=True)
    trainer.save(path, settings)


if __name__ == "__main__":
    main()
