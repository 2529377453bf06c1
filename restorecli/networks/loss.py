"""The loss that networks are trained and fine-tuned with. Only torch here."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FFT_WEIGHT = 0.03  # of the Fourier amplitudes


def loss_of(restored: Tensor, clean: Tensor, fft_weight: float = FFT_WEIGHT) -> Tensor:
    """Mean absolute error, plus a little of it between the Fourier amplitudes (orthonormal).

    Shape:
        restored, clean: (B, C, H, W) → scalar, float32.
    """
    restored, clean = restored.float(), clean.float()
    amplitudes = [torch.fft.rfft2(part, norm="ortho").abs() for part in (restored, clean)]
    return F.l1_loss(restored, clean) + fft_weight * F.l1_loss(*amplitudes)
