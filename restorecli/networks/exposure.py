"""A tone curve that brings a dark picture to a mean brightness, from statistics of the whole of it.

The curve y = g·x/(1 + (g − 1)·x) keeps black and white, and g ≥ 1 says how steeply it rises from
black. The mean luma of the curved picture follows from histograms alone, because luma is a sum over
channels: histograms are counted in whole numbers, so g is the same however a picture is cut up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restorecli.networks.blocks import WITHOUT_FLOAT64

LUMA = (0.299, 0.587, 0.114)  # Rec. 601
STEPS = 16 * 255  # between black and white: every value of 8 bits is the value of a bin
BINS = STEPS + 1
LARGEST_GAIN = 64.0
HALVINGS = 50  # of the interval that g lies in: more than float64 tells apart
HIGHLIGHT_PERCENT = 99  # of the pixels are darker than what decides whether there are lamps
UNLIT, LIT = 0.35, 0.9  # highlights of a scene without lamps, and of one with lamps


def curved(x: Tensor, gain: Tensor) -> Tensor:
    """The tone curve g·x/(1 + (g − 1)·x), in the dtype of ``x``.

    Shape:
        x: (B, C, H, W), nominally [0, 1], clamped to it; gain: (B,), at least 1 → (B, C, H, W).
    """
    g = gain.to(x.dtype).reshape(-1, 1, 1, 1)
    x = x.clamp(0, 1)
    return g * x / (1 + (g - 1) * x)


def histograms(x: Tensor) -> Tensor:
    """How often each channel, and the largest of them, takes each of ``BINS`` values.

    Shape:
        x: (B, C, H, W), nominally [0, 1], clamped to it → (B, C + 1, BINS), int64.
    """
    planes = torch.cat([x, x.amax(1, keepdim=True)], 1).flatten(2)  # (B, C + 1, H·W)
    planes = planes.detach().float().nan_to_num().clamp(0, 1)
    index = (planes * STEPS).round().to(torch.int64)
    counts = torch.zeros(*index.shape[:2], BINS, dtype=torch.int64, device=x.device)
    return counts.scatter_add(2, index, torch.ones_like(index))


def gain_from(counts: Tensor, mean: float, mean_lit: float) -> Tensor:
    """The gain for which the mean luma of the curved picture is what is aimed at.

    That is ``mean`` for a scene without highlights, ``mean_lit`` for one with lamps in it, and
    in between by the 99th percentile of the largest channel. A picture that is brighter as it is
    has a gain of 1.

    Args:
        counts: (B, C + 1, BINS), int64: ``histograms``, with at least one pixel; C is 1 or 3.
        mean: Aim without highlights, in (0, 1).
        mean_lit: Aim with lamps, in (0, 1).

    Shape:
        → (B,), in [1, ``LARGEST_GAIN``], float64 (float32 where the device has no float64).
    """
    dtype = torch.float32 if counts.device.type in WITHOUT_FLOAT64 else torch.float64
    with torch.no_grad(), torch.autocast(counts.device.type, enabled=False):
        below = counts[:, -1].cumsum(-1)  # (B, BINS)
        pixels = below[:, -1:]  # (B, 1)
        highlight = (100 * below < HIGHLIGHT_PERCENT * pixels).sum(-1).to(dtype) / STEPS  # (B,)
        lit = ((highlight - UNLIT) / (LIT - UNLIT)).clamp(0, 1)
        aim = mean + (mean_lit - mean) * lit  # (B,)
        channels = counts[:, :-1].to(dtype)  # (B, C, BINS)
        weights = LUMA if channels.shape[1] == len(LUMA) else (1.0,)
        luma = sum(w * c for w, c in zip(weights, channels.unbind(1), strict=True)) / pixels
        value = torch.arange(BINS, device=counts.device, dtype=dtype) / STEPS  # (BINS,)

        def too_dark(gain: Tensor) -> Tensor:
            g = gain.unsqueeze(-1)
            return (luma * (g * value / (1 + (g - 1) * value))).sum(-1) < aim  # (B,)

        one = torch.ones_like(aim)
        low, high = one, LARGEST_GAIN * one
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            dark = too_dark(middle)
            low, high = torch.where(dark, middle, low), torch.where(dark, high, middle)
        return torch.where(too_dark(one), high, one)
