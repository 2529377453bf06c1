"""Which network for the same time? ``python -m training.ablation TASK --photos DIR --data DIR``.

Trains HINT, both kinds of GLMHA-Restormer and Restormer from nothing, one after the other, with
the same recipe, the same samples and the same number of minutes, and prints a Markdown table of
what each scores on the task's test sets. Widths and depths are equal, so the costs nearly are. How
many steps fit into the minutes is measured on a few steps at the start. Given again, the command
goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from restorecli.machine.allocator import keep_freed_memory
from restorecli.scoring.metrics import PROTOCOLS
from training.data import Batches, load_photographs
from training.judging import Figures, judge
from training.runner import Network, restored
from training.tasks import NETWORKS, TASKS
from training.testsets import SETS, TestSet, pairs_of
from training.train import Recipe, Run, Training, train

TIMED_STEPS = 12  # the first two of which do not count
SIDE_PX = 256  # for multiply-adds


def steps_for(minutes: float, recipe: Recipe, batches: Batches) -> int:
    """How many steps fit, from the time that some of them take on this machine."""
    training = Training(recipe, torch.device("cpu"))
    for step in range(TIMED_STEPS):
        if step == 2:
            started = time.perf_counter()
        training.advance(*batches[step])
    return int(minutes * 60 * (TIMED_STEPS - 2) / (time.perf_counter() - started))


def multiply_adds(network: nn.Module) -> float:
    """Of one picture of ``SIDE_PX`` squared, convolutions and products, in billions."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, SIDE_PX, SIDE_PX))
    return counter.get_total_flops() / 2e9


def scores(chosen: TestSet, data: Path, weights: Path) -> tuple[Figures, Figures]:
    """Figures of a set before and after ``restore --weights``."""
    pairs, protocol = pairs_of(chosen, data), PROTOCOLS[chosen.protocol]
    inputs, targets = [p.degraded for p in pairs], [p.clean for p in pairs]
    network = Network(label=weights.stem, options=("--weights", str(weights)))
    results = restored(chosen.task, inputs, network, "fp32")
    return judge(inputs, targets, protocol), judge(results, targets, protocol)


def main() -> None:
    """Train, score, print a row for each network."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(prog="python -m training.ablation", description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--photos", type=Path, required=True, help="folder of clean photographs")
    parser.add_argument("--data", type=Path, required=True, help="folder of the test sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--minutes", type=float, default=12, help="of training, each network")
    parser.add_argument("--sets", nargs="+", help="names of test sets; default: all of the task")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    args = parser.parse_args()
    sets = [s for s in SETS if s.task == args.task]
    sets = [s for s in sets if not args.sets or s.name in args.sets]
    plain = Recipe(task=args.task, steps=10**6)
    batches = Batches(
        load_photographs(args.photos),
        TASKS[args.task],
        plain.seed,
        patch_px=plain.patch_px,
        size=plain.batch,
    )
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {args.minutes:g} min")
    print("| network | parameters | GMAC | steps |", *(f"{s.name} |" for s in sets))
    print("|---|---|---|---|" + "---|" * len(sets))
    for name in args.networks:
        folder = args.out / name
        recipe = replace(plain, network=name)
        if (folder / "recipe.json").exists():
            steps = json.loads((folder / "recipe.json").read_text())["steps"]
        else:
            steps = steps_for(args.minutes, recipe, batches)
        recipe = replace(recipe, steps=steps, warmup_steps=steps // 10)
        run = Run(out=folder, photos=(args.photos,), device=torch.device("cpu"), resume=True)
        training = train(recipe, run)
        weights = folder / f"{name}.safetensors"
        state = {k: v.contiguous() for k, v in training.average.module.state_dict().items()}
        weights.write_bytes(safetensors.torch.save(state))
        count = sum(p.numel() for p in training.average.parameters())
        cost = multiply_adds(training.average.eval())
        results = [scores(s, args.data, weights) for s in sets]
        print(
            f"| {name} | {count:,} | {cost:.2f} | {steps} |",
            *(f"{a.psnr_db.mean():.2f} → {b.psnr_db.mean():.2f} |" for a, b in results),
            flush=True,
        )


if __name__ == "__main__":
    main()
