"""The loss that networks are trained and fine-tuned with. Only torch here."""

from __future__ import annotations

import torch
from torch import Tensor

FFT_WEIGHT = 0.03  # of the Fourier amplitudes
LEAST_SQUARE = 1e-8  # keeps the slope of a root finite; 80 dB


def losses_of(restored: Tensor, clean: Tensor, fft_weight: float = FFT_WEIGHT) -> Tensor:
    """Of each picture: mean absolute error, plus a little of it between Fourier amplitudes.

    Shape:
        restored, clean: (B, C, H, W) → (B,), float32. The transform is orthonormal.
    """
    restored, clean = restored.float(), clean.float()
    amplitudes = [torch.fft.rfft2(part, norm="ortho").abs() for part in (restored, clean)]
    apart = (restored - clean).abs().mean((1, 2, 3))
    return apart + fft_weight * (amplitudes[0] - amplitudes[1]).abs().mean((1, 2, 3))


def root_mean_squares_of(restored: Tensor, clean: Tensor) -> Tensor:
    """Of each picture: root mean square error. ``balanced`` without floor, its gradient is PSNR's.

    Shape:
        restored, clean: (B, C, H, W) → (B,), float32.
    """
    squares = (restored.float() - clean.float()).square().mean((1, 2, 3))
    return (squares + LEAST_SQUARE).sqrt()


def loss_of(restored: Tensor, clean: Tensor, fft_weight: float = FFT_WEIGHT) -> Tensor:
    """Mean of ``losses_of``: (B, C, H, W) each → scalar, float32."""
    return losses_of(restored, clean, fft_weight).mean()


def balanced(losses: Tensor, floor: float) -> Tensor:
    """Mean of ``losses`` (B,) in which a picture counts by the inverse of its own: → scalar.

    Decibels count ratios of errors. In a plain mean one picture in a downpour outweighs twenty in
    drizzle, and what must not be changed at all weighs nothing. ``floor`` is the loss below which
    smaller ones are no longer preferred.
    """
    weights = 1 / (losses.detach() + floor)
    return (weights * losses).sum() / weights.sum()
