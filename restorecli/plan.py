"""Where and how an image is restored: device, precision, and whole or in tiles."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch
from torch import nn

from restorecli.errors import DeviceError, UsageError
from restorecli.options import AUTO, DEFAULT_OVERLAP_PX, MULTIPLE_PX, SMALLEST_TILE_PX

MEMORY_SHARE = 0.6  # of what is free now: other programs and the encoder need some too
LARGEST_TILE_PX = 2048
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one image is restored. ``tile_px`` is ``None`` for the whole image at once."""

    tile_px: int | None
    overlap_px: int
    predicted_bytes: int

    @property
    def exact(self) -> bool:
        """The whole image in one piece: no tile has changed the result."""
        return self.tile_px is None


def choose_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` → a device that is there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda:0")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (index and not (kind == "cuda" and index.isdigit())):
        raise UsageError(
            f"--device {name!r} is unknown.", hint="Use auto, cpu, cuda, cuda:N or mps."
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("There is no MPS device here.", hint="Use --device auto or cpu.")
    if kind == "cuda":
        count = torch.cuda.device_count()
        if int(index or 0) >= count:
            raise DeviceError(
                f"There is no CUDA device {index or 0} here: PyTorch {torch.__version__} "
                f"finds {count}.",
                hint="Use --device auto or cpu; `restore doctor` shows what is there.",
            )
        return torch.device("cuda", int(index or 0))
    return torch.device(kind)


def choose_precision(name: str) -> torch.dtype:
    """``auto``, ``fp32``, ``bf16`` or ``fp16`` → the dtype of the convolutions.

    ``auto`` is float32 everywhere: statistics and orders are discontinuous, and a lower precision
    is used only when asked for.
    """
    if name == "auto":
        return torch.float32
    if name not in PRECISIONS:
        raise UsageError(f"--precision {name!r} is unknown.", hint="Use auto, fp32, bf16 or fp16.")
    return PRECISIONS[name]


def make_plan(
    network: nn.Module,
    size: tuple[int, int],
    device: torch.device,
    *,
    tile: int | None,
    overlap_px: int,
) -> Plan:
    """Whole image if the features fit into a share of the free memory, else the largest tiles.

    Args:
        network: Its first convolution tells the width of the features.
        size: (height, width) of the image in pixels.
        device: Where the features will be.
        tile: Side in pixels, ``None`` for the whole image, or ``AUTO``.
        overlap_px: What neighbouring tiles share.
    """
    height, width = size
    if tile is None or (tile != AUTO and tile >= max(size)):
        return Plan(tile_px=None, overlap_px=0, predicted_bytes=forward_bytes(network, size))
    if tile != AUTO:
        predicted = forward_bytes(network, (min(tile, height), min(tile, width)))
        return Plan(tile_px=tile, overlap_px=overlap_px, predicted_bytes=predicted)
    budget = MEMORY_SHARE * free_bytes(device)
    whole = forward_bytes(network, size)
    if whole <= budget:
        return Plan(tile_px=None, overlap_px=0, predicted_bytes=whole)
    tile_px = LARGEST_TILE_PX
    while tile_px > SMALLEST_TILE_PX and forward_bytes(network, (tile_px, tile_px)) > budget:
        tile_px -= SMALLEST_TILE_PX
    predicted = forward_bytes(network, (tile_px, tile_px))
    return Plan(tile_px=tile_px, overlap_px=overlap_px, predicted_bytes=predicted)


def smaller_plan(plan: Plan, size: tuple[int, int]) -> Plan | None:
    """The plan to try after running out of memory: half the tile; ``None`` at the end."""
    current = plan.tile_px or max(size)
    tile_px = current // 2 // MULTIPLE_PX * MULTIPLE_PX
    if tile_px < SMALLEST_TILE_PX:
        return None
    overlap_px = plan.overlap_px or DEFAULT_OVERLAP_PX
    return Plan(tile_px=tile_px, overlap_px=overlap_px, predicted_bytes=plan.predicted_bytes // 4)


def forward_bytes(network: nn.Module, size: tuple[int, int]) -> int:
    """Memory of one forward pass in float32 above the parameters, in bytes.

    The widest moment is a feed-forward at full resolution: its hidden features twice (before and
    after the depth-wise convolution), the gate and the residual, for width 2·dim. Checked against
    measured peaks by ``benchmarks/memory.py``.
    """
    dim = network.get_parameter("patch_embed.proj.weight").shape[0]
    padded = [-(-side // MULTIPLE_PX) * MULTIPLE_PX for side in size]
    values_per_pixel = FORWARD_VALUES_PER_DIM * dim
    return int(padded[0] * padded[1] * values_per_pixel * 4)


FORWARD_VALUES_PER_DIM = 36.0  # float32 values alive per pixel and unit of dim, at the peak


def free_bytes(device: torch.device) -> int:
    """Memory that can be had now on ``device``, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
