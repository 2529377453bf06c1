"""The use case: a Restormer on this machine becomes a GLMHA-Restormer, and its scores."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from restorecli.conversion.closed_form import reduced, refit
from restorecli.degrading import DEGRADE
from restorecli.errors import InputError, UsageError, WeightsError
from restorecli.images import identify, read_photo
from restorecli.machine.allocator import keep_freed_memory
from restorecli.networks import GLMHARestormer, Restormer
from restorecli.networks.loss import loss_of
from restorecli.weights import WeightEntry, registry
from restorecli.weights.checkpoint import load_model
from restorecli.weights.install import add_network

CROP_PX = 128
CALIBRATION_CROPS = 32
HELD_OUT_CROPS = 8
LEARNING_RATE = 3e-4
SEED = 0

Image = NDArray[np.uint8]


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


class Crops:
    """Clean and degraded crops: some to calibrate on, others, of other photographs, to score on."""

    def __init__(self, photographs: Sequence[Image], task: str, channels: int) -> None:
        held_out = max(1, len(photographs) // 4)
        self.known, self.unseen = photographs[:-held_out], photographs[-held_out:]
        self.degrade = DEGRADE[task]
        self.channels = channels

    def calibration(self) -> Iterator[Tensor]:
        """Degraded crops, the same on every call: (1, C, H, W) in [0, 1]."""
        pairs = self._drawn(self.known, SEED)
        return (degraded for degraded, _ in itertools.islice(pairs, CALIBRATION_CROPS))

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Degraded and clean crops that calibration never sees."""
        return itertools.islice(self._drawn(self.unseen, SEED + 1), HELD_OUT_CROPS)

    def endless(self) -> Iterator[Tensor]:
        """Degraded crops of the photographs for calibration, without end."""
        return (degraded for degraded, _ in self._drawn(self.known, SEED + 2))

    def _drawn(self, photographs: Sequence[Image], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng(seed)
        for photograph in itertools.cycle(photographs):
            top, left = (rng.integers(0, max(1, n - CROP_PX + 1)) for n in photograph.shape[:2])
            crop = photograph[top : top + CROP_PX, left : left + CROP_PX]
            clean: NDArray[np.float32] = crop.astype(np.float32) / np.float32(255)
            if self.channels == 1:
                clean = clean.mean(-1, keepdims=True, dtype=np.float32)
            degraded = self.degrade(clean, rng).clip(0, 1)
            yield _tensor(degraded), _tensor(clean)


def _tensor(pixels: NDArray[np.float32]) -> Tensor:
    """(H, W, C) → (1, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32))[None]


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


def finetune(
    teacher: Restormer,
    student: GLMHARestormer,
    crops: Crops,
    *,
    minutes: float = math.inf,
    steps: int | None = None,
) -> None:
    """Teach ``student`` the teacher's results, with the loss of this project's training recipe.

    It ends after ``minutes`` or ``steps``; the learning rate falls to zero over that course.
    """
    optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    started = time.perf_counter()
    student.train()
    for step, degraded in enumerate(crops.endless()):
        spent = (time.perf_counter() - started) / 60
        done = max(spent / minutes, step / steps if steps else 0.0)
        if done >= 1:
            break
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * done))
        with torch.no_grad():
            target = teacher(degraded)
        loss = loss_of(student(degraded), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 0.5)
        optimizer.step()
    student.eval()


def from_folder(folder: Path) -> list[Image]:
    """The clean pictures of a folder, RGB uint8 (H, W, 3), at least two."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", hint="--calibrate needs clean pictures.")
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and identify(path)]
    pictures = [read_photo(path).pixels for path in found[:64]]
    usable = [p for p in pictures if p.ndim == 3 and p.dtype == np.uint8]
    if len(usable) < 2:
        raise InputError(
            f"{folder} has {len(usable)} colour pictures of 8 bits; at least 2 are needed.",
            hint="One is kept for the scores.",
        )
    return usable


def shipped_photographs() -> list[Image]:
    """Photographs that come with scikit-image, the last one for the scores."""
    from skimage import data

    return [data.astronaut(), data.chelsea(), data.rocket(), data.coffee()]
