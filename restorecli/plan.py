"""Where and how an image is restored: device, precision, and whole or in tiles."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import psutil
import torch

from restorecli.errors import DeviceError, UsageError
from restorecli.networks import Network
from restorecli.networks.strips import resident_bytes
from restorecli.options import AUTO, DEFAULT_OVERLAP_PX, MULTIPLE_PX, SMALLEST_TILE_PX

MEMORY_SHARE = 0.6  # of what is free now: other programs and the encoder need some too
LARGEST_TILE_PX = 4096
# 64 rows of 1024 pixels: the fastest in benchmarks/results/0.1.0/strips--cpu--float32.txt
STRIP_PIXELS = 65_536
MOST_STRIP_ROWS = 64
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one image is restored: by strips, whole or in tiles (``tile_px``)."""

    tile_px: int | None
    overlap_px: int
    strip_rows: int
    predicted_bytes: int

    @property
    def exact(self) -> bool:
        """The whole image: strips give the same pixels, tiles would change them."""
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
    network: Network,
    size: tuple[int, int],
    available_bytes: int,
    *,
    bytes_per_value: int,
    tile: int | None,
    overlap_px: int,
) -> Plan:
    """Whole image if it fits into a share of the memory, else the largest tiles that do.

    Args:
        network: What the memory formula depends on.
        size: (height, width) of the image in pixels.
        available_bytes: Memory that can be had now.
        bytes_per_value: Of the features: 4 for float32, 2 for half precision.
        tile: Side in pixels, ``None`` for the whole image, or ``AUTO``.
        overlap_px: What neighbouring tiles share.
    """

    def plan(tile_px: int | None) -> Plan:
        height, width = size if tile_px is None else (min(tile_px, side) for side in size)
        strip_rows = strip_height(width)
        needed = resident_bytes(
            network, height, width, strip_rows=strip_rows, bytes_per_value=bytes_per_value
        )
        return Plan(
            tile_px=tile_px,
            overlap_px=overlap_px if tile_px else 0,
            strip_rows=strip_rows,
            predicted_bytes=needed,
        )

    whole = plan(None)
    if tile is None or (tile != AUTO and tile >= max(size)):
        return whole
    if tile != AUTO:
        return plan(tile)
    budget = MEMORY_SHARE * available_bytes
    if whole.predicted_bytes <= budget:
        return whole
    tile_px = LARGEST_TILE_PX
    while tile_px > SMALLEST_TILE_PX and plan(tile_px).predicted_bytes > budget:
        tile_px -= SMALLEST_TILE_PX
    return plan(tile_px)


def strip_height(width: int) -> int:
    """Rows of a strip for a picture of ``width`` pixels: fewer where rows are long.

    A multiple of 8, because sums are taken over blocks of 8 rows: the height changes no pixel.
    """
    return max(8, min(MOST_STRIP_ROWS, STRIP_PIXELS // width // 8 * 8))


def smaller_plan(plan: Plan, size: tuple[int, int]) -> Plan | None:
    """The plan to try after running out of memory: half the tile; ``None`` at the end."""
    tile_px = (plan.tile_px or max(size)) // 2 // MULTIPLE_PX * MULTIPLE_PX
    if tile_px < SMALLEST_TILE_PX:
        return None
    return replace(
        plan,
        tile_px=tile_px,
        overlap_px=plan.overlap_px or DEFAULT_OVERLAP_PX,
        predicted_bytes=plan.predicted_bytes // 4,
    )


def free_bytes(device: torch.device) -> int:
    """Memory that can be had now on ``device``, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def peak_bytes(device: torch.device) -> int:
    """Most memory that this process has held so far: of ``device`` if it is CUDA, else its own."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
