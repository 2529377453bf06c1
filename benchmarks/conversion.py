"""What does a converted GLMHA-Restormer keep of its Restormer, and what does each step bring?

``python -m benchmarks.conversion FILE.pth --task denoise`` prints a Markdown table for any
Restormer: teacher, attention removed, random rows, energy rows, + refit, + fine-tune, for both
presets and three ratios. PSNR is the mean over held-out crops; times are of the plain forward pass.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from restorecli.conversion.closed_form import reduced, refit
from restorecli.conversion.convert import Scores, Steps
from restorecli.conversion.crops import Crops, from_folder, shipped_photographs
from restorecli.conversion.finetune import finetune
from restorecli.machine.allocator import keep_freed_memory
from restorecli.networks import Restormer
from restorecli.networks.glmha_restormer import PRESETS
from restorecli.weights.fitting import architecture_of, as_published, build, fill
from restorecli.weights.reading import read_checkpoint


def main() -> None:
    """Print the table, row by row."""
    options = parsed_options()
    keep_freed_memory()
    checkpoint = read_checkpoint(options.checkpoint)
    state = as_published(checkpoint.state)
    name, built = architecture_of(checkpoint.path, checkpoint.described, state, "restormer")
    teacher = build(checkpoint.path, name, built)
    fill(teacher, state, checkpoint.path, name)
    assert isinstance(teacher, Restormer)
    photographs = from_folder(options.photos) if options.photos else shipped_photographs()
    crops = Crops(photographs, options.task, built["inp_channels"])
    side = options.side
    print(
        f"{options.checkpoint.name}, sha256 {checkpoint.sha256}; {options.task}; "
        f"{len(photographs)} photographs; torch {torch.__version__}, "
        f"{torch.get_num_threads()} thread(s); seconds at {side}×{side}, median of {options.runs}"
    )
    print("| preset | ratio | step | to teacher, dB | to clean, dB | parameters | s | min s |")
    print("|---|---|---|---|---|---|---|---|")
    for preset, ratio, row, network in rows(teacher.eval(), built, crops, options):
        seconds = times(network, built["inp_channels"], side, options.runs)
        numbers = [
            f"{db:.2f}" if db else "equal" for db in (row.against_teacher, row.against_clean)
        ]
        print(
            f"| {preset} | {ratio} | {row.stage} | {numbers[0]} | {numbers[1]} "
            f"| {row.parameters:,} | {statistics.median(seconds):.3f} | {min(seconds):.3f} |",
            flush=True,
        )


def parsed_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conversion", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a Restormer, .pth or .safetensors")
    parser.add_argument("--task", default="denoise")
    parser.add_argument("--photos", type=Path, help="folder of clean photographs")
    parser.add_argument("--presets", nargs="+", default=["text", "table"])
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.25, 0.5, 0.75])
    parser.add_argument("--steps", type=int, default=200, help="of fine-tuning")
    parser.add_argument("--side", type=int, default=256, help="pixels, for the times")
    parser.add_argument("--runs", type=int, default=5, help="for the times")
    return parser.parse_args()


def rows(
    teacher: Restormer, built: dict[str, object], crops: Crops, options: argparse.Namespace
) -> Iterator[tuple[str, str, Scores, nn.Module]]:
    """Preset, ratio, scores and network of every row."""
    steps = Steps(teacher, crops)
    yield "–", "–", steps.score("teacher", teacher), teacher
    for preset in options.presets:
        without = attention_removed(teacher, preset)
        yield preset, "–", steps.score("attention removed", without), without
        for ratio in options.ratios:
            how = {"preset": preset, "ratio": ratio}
            chance, _ = reduced(teacher, built, (), **how, choice="random")
            yield preset, f"{ratio:g}", steps.score("random rows", chance), chance
            student, kept = reduced(teacher, built, crops.calibration(), **how)
            yield preset, f"{ratio:g}", steps.score("energy rows", student), student
            refit(teacher, student, kept, crops.calibration())
            yield preset, f"{ratio:g}", steps.score("+ refit", student), student
            finetune(teacher, student, crops, steps=options.steps)
            yield (
                preset,
                f"{ratio:g}",
                steps.score(f"+ {options.steps} steps of fine-tuning", student),
                student,
            )


class Nothing(nn.Module):
    """Attention that adds nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zeros like ``x``."""
        return torch.zeros_like(x)


def attention_removed(teacher: Restormer, preset: str) -> Restormer:
    """``teacher`` without attention where ``preset`` would reduce it."""
    network = copy.deepcopy(teacher)
    for stage in PRESETS[preset][0]:
        for block in network.get_submodule(stage).children():
            block.attn = Nothing()
    return network


def times(network: nn.Module, channels: int, side: int, runs: int) -> list[float]:
    """Seconds of ``runs`` forward passes, after one that does not count."""
    x = torch.rand(1, channels, side, side)
    seconds = []
    with torch.inference_mode():
        for _ in range(runs + 1):
            started = time.perf_counter()
            network(x)
            seconds.append(time.perf_counter() - started)
    return seconds[1:]


if __name__ == "__main__":
    main()
