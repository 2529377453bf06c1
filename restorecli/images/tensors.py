"""Pixels to network input and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from restorecli.images.photo import WHITE


def to_tensor(pixels: NDArray[Any], channels: int) -> Tensor:
    """uint8, uint16 or float32 (H, W, 3) or (H, W) → float32 (1, channels, H, W) in [0, 1].

    Gray is repeated for a network of three channels; RGB does not fit a network of one.
    """
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    if planes.shape[2] not in {1, channels}:
        raise ValueError(f"{planes.shape[2]} channels of pixels for a network of {channels}")
    x = torch.from_numpy(np.ascontiguousarray(planes)).permute(2, 0, 1)[None]  # (1, C, H, W)
    return x.expand(1, channels, -1, -1).to(torch.float32).div(WHITE[pixels.dtype])


def as_gray(planes: Tensor) -> Tensor:
    """Float (C, H, W) → float32 (1, H, W): what a gray picture is after three channels."""
    return planes.double().mean(0, keepdim=True).float()


def to_pixels(x: Tensor, *, gray: bool, dtype: DTypeLike = np.uint8) -> NDArray[Any]:
    """Float (1, C, H, W) → ``dtype`` (H, W, 3), or (H, W) if ``gray``: clamp, round half to even.

    A gray photograph that went through a network of three channels is their mean. Nothing is
    rounded for float32.
    """
    planes = x[0].float()
    if gray:
        exactly = planes.double() if np.dtype(dtype).kind == "f" else planes
        planes = exactly.mean(0, keepdim=True).float()
    planes = planes.clamp(0, 1)
    if np.dtype(dtype).kind == "u":
        planes = planes.mul(WHITE[np.dtype(dtype)]).round()
    pixels = planes.permute(1, 2, 0).contiguous().cpu().numpy().astype(dtype)
    return pixels[..., 0] if gray else pixels
