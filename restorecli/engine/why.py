"""Why a device, a precision or a way through memory was chosen: sentences for ``--verbose``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from restorecli.limits import AUTO

if TYPE_CHECKING:
    from restorecli.engine.plan import Demand, Memory, Plan


def device_text(asked: str, device: torch.device) -> str:
    """Where it is computed."""
    if asked != "auto":
        return f"Device {device}: --device {asked} asks for it."
    if device.type == "cuda":
        return f"Device {device}: the first of {torch.cuda.device_count()} that CUDA has."
    if device.type == "mps":
        return "Device mps: there is no CUDA device, but Apple's."
    return f"Device cpu: PyTorch {torch.__version__} finds neither a CUDA device nor Apple's."


def precision_text(asked: str, device: torch.device, *, fast: bool, is_close: bool) -> str:
    """In which type features are computed.

    Args:
        asked: As in ``--precision``.
        device: Where.
        fast: Whether ``device`` multiplies bfloat16 faster than float32.
        is_close: Whether the network was found to give the same pictures in bfloat16.
    """
    if asked != "auto":
        return f"Precision {asked}: it was asked for."
    if fast and is_close:
        return f"Precision bf16: {device} is faster in it, and the network is as good, as measured."
    if fast:
        return "Precision fp32: the network was not found to give the same pictures in bfloat16."
    return f"Precision fp32: {device} has no faster instructions for bfloat16."


def threads_text(asked: int | None, threads: int) -> str:
    """How many threads compute."""
    reason = "--threads asks for it" if asked else "one for each core that may be used"
    return f"Threads {threads}: {reason}."


def plan_text(plan: Plan, demand: Demand, memory: Memory, *, tile: int | None, first: Plan) -> str:
    """How a picture goes through memory; ``first`` is the plan that would have been fastest."""
    height, width = demand.size
    way = f"strips of {plan.strip_rows} rows"
    if plan.keep_bytes == 0:
        way += ", with nothing kept for later"
    needed = f"it needs {_size(plan.needed_bytes)} of {_size(memory.budget_bytes)}"
    if memory.max_bytes is None:
        needed += f" that may be used of {_size(memory.available_bytes)} free"
    else:
        needed += f" that --max-memory {_size(memory.max_bytes)} leaves"
    if plan.exact:
        what = f"the whole picture, in {way}"
        reason = needed if plan == first else f"{needed}; higher strips do not fit"
    else:
        what = f"tiles of {plan.tile_px} px that share {plan.overlap_px}, in {way}"
        whole = f"the whole picture does not fit; {needed}"
        reason = whole if tile == AUTO else f"--tile {tile} asks for them; {needed}"
    return f"{width}×{height} pixels: {what}: {reason}."


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
