"""Teach a converted network what its teacher makes of the same pictures."""

from __future__ import annotations

import math
import time

import torch
from torch import nn

from restorecli.conversion.crops import Crops
from restorecli.networks import GLMHARestormer, Restormer
from restorecli.networks.loss import loss_of

LEARNING_RATE = 3e-4


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
