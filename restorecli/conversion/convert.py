"""The use case: a Restormer on this machine becomes a GLMHA-Restormer, and its scores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from restorecli.conversion.closed_form import reduced, refit
from restorecli.conversion.crops import Crops, from_folder, shipped_photographs
from restorecli.conversion.finetune import finetune
from restorecli.errors import UsageError, WeightsError
from restorecli.machine.allocator import keep_freed_memory
from restorecli.networks import Restormer
from restorecli.weights import WeightEntry, registry
from restorecli.weights.checkpoint import load_model
from restorecli.weights.install import add_network


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Mean PSNR in dB over held-out crops, RGB, [0, 1]."""

    stage: str
    against_teacher: float | None  # none when equal
    against_clean: float | None
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What came of it."""

    entry: WeightEntry
    scores: Sequence[Scores]
    elapsed_s: float


def convert(
    model_id: str,
    *,
    preset: str,
    ratio: float,
    calibrate: Path | None,
    finetune_minutes: float,
    entry_id: str | None,
    say: Callable[[str], None] = lambda text: None,
) -> Converted:
    """Convert an installed Restormer, score every step on held-out crops, install the result."""
    keep_freed_memory()
    started = time.perf_counter()
    if preset not in {"text", "table"}:
        raise UsageError(f"--preset must be text or table, got {preset!r}.")
    if not 0 <= ratio < 1:
        raise UsageError(f"--ratio must be at least 0 and less than 1, got {ratio}.")
    entry = registry()[model_id]
    if entry.network != "restormer" or entry.options.get("dual_pixel_task"):
        raise WeightsError(
            f"{model_id} is no Restormer of single pictures, so it cannot be converted.",
            hint="Choose one whose network is restormer (`restore models list`).",
        )
    model = load_model(entry, None)
    teacher = model.network
    assert isinstance(teacher, Restormer)
    photographs = from_folder(calibrate) if calibrate else shipped_photographs()
    crops = Crops(photographs, entry.tasks[0], model.channels)
    steps = Steps(teacher, crops)
    say("choosing rows by energy")
    student, rows = reduced(teacher, entry.options, crops.calibration(), preset=preset, ratio=ratio)
    scores = [steps.score("teacher", teacher), steps.score("energy rows", student)]
    say("fitting the output projections")
    refit(teacher, student, rows, crops.calibration())
    scores.append(steps.score("+ refit", student))
    if finetune_minutes > 0:
        say(f"fine-tuning for {finetune_minutes:g} minutes")
        finetune(teacher, student, crops, minutes=finetune_minutes)
        scores.append(steps.score("+ fine-tune", student))
    where = f"the pictures in {calibrate.name}" if calibrate else "photographs that ship with it"
    converted = add_network(
        entry_id or f"glmha-{model_id.removeprefix('restormer-')}-{preset}-{ratio:g}",
        "glmha_restormer",
        {**entry.options, "preset": preset, "ratio": ratio},
        student.state_dict(),
        made_from=entry,
        note=f"made here from {model_id} (sha256 {model.sha256}), calibrated on {where}, "
        f"fine-tuned for {finetune_minutes:g} minutes",
    )
    return Converted(entry=converted, scores=tuple(scores), elapsed_s=time.perf_counter() - started)


class Steps:
    """Scores of networks on the held-out crops, beside a teacher whose results are kept."""

    def __init__(self, teacher: Restormer, crops: Crops) -> None:
        self.pairs = list(crops.held_out())
        with torch.inference_mode():
            self.teachers = [teacher(degraded) for degraded, _ in self.pairs]

    def score(self, stage: str, network: nn.Module) -> Scores:
        """Mean PSNR of ``network`` against the teacher's results and the clean crops."""
        with torch.inference_mode():
            results = [network(degraded) for degraded, _ in self.pairs]
        cleans = [clean for _, clean in self.pairs]
        return Scores(
            stage=stage,
            against_teacher=mean_psnr(results, self.teachers),
            against_clean=mean_psnr([y.clamp(0, 1) for y in results], cleans),
            parameters=sum(p.numel() for p in network.parameters()),
        )


def mean_psnr(results: Sequence[Tensor], targets: Sequence[Tensor]) -> float | None:
    """Mean over pictures in [0, 1] of −10·log10(MSE); ``None`` when a pair is equal."""
    pairs = zip(results, targets, strict=True)
    errors = [float((y - target).double().square().mean()) for y, target in pairs]
    if min(errors) == 0:
        return None
    return sum(-10 * math.log10(error) for error in errors) / len(errors)
