"""A checkpoint file to named tensors. Nothing in a file is ever run, and nothing is taken on trust.

Read are .safetensors and PyTorch files of plain tensors, bare or under ``params_ema``, ``params``
or ``state_dict``, with or without a ``module.`` prefix, in float16, bfloat16, float32 or float64.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from restorecli.errors import WeightsError
from restorecli.weights.choice import CheckpointFile
from restorecli.weights.pickles import refuse_hostile

STATE_KEYS = ("params_ema", "params", "state_dict")  # where published files keep their tensors
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LARGEST_VALUES = 2**28
MOST_TENSORS = 5000  # five times HINT's
USABLE = "Expected .safetensors, or a .pth of plain tensors."


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a file holds."""

    path: Path
    sha256: str  # of the whole file
    size_bytes: int
    state: Mapping[str, Tensor]  # on the CPU, finite, in the file's own precision
    described: Mapping[str, str]  # what a safetensors file says of itself


def read_checkpoint(place: Path | CheckpointFile) -> Checkpoint:
    """Read the file once: hash and tensors are of the same bytes.

    Raises ``WeightsError`` when the file is missing, too large, damaged, unsafe or no checkpoint.
    """
    file = place if isinstance(place, CheckpointFile) else CheckpointFile(place)
    path, data = file.path, file.take()
    try:
        if _is_safetensors(data):
            tensors, described = safetensors.torch.load(data), _metadata(data)
        else:
            tensors, described = _unpickled(data), {}
        state = _checked(tensors)
    except Exception as error:  # a hostile file can make its parsers fail in any way
        raise WeightsError(
            f"{path} is not a usable checkpoint: {_reason(error)}.", hint=USABLE
        ) from error
    return Checkpoint(
        path=path,
        sha256=file.sha256,
        size_bytes=len(data),
        state=state,
        described=described,
    )


def _reason(error: Exception) -> str:
    """The first line of what went wrong, or the name of what a file wanted to run."""
    text = str(error)
    if wanted := re.search(r"GLOBAL (\S+)", text):
        return f"it wants to run {wanted[1]}, and nothing inside a checkpoint is ever run"
    if isinstance(error, pickle.UnpicklingError):
        return "it is not made of plain tensors"
    first = (text.splitlines() or [""])[0].strip().rstrip(".")
    return first[:160] or type(error).__name__


def _is_safetensors(data: bytes) -> bool:
    """Eight bytes of header length, then JSON."""
    if len(data) < 9:
        return False
    (length,) = struct.unpack_from("<Q", data)
    return bool(0 < length <= len(data) - 8 and data[8:9] == b"{")


def _metadata(data: bytes) -> Mapping[str, str]:
    (length,) = struct.unpack_from("<Q", data)
    described: dict[str, str] = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    return described


def _unpickled(data: bytes) -> dict[Any, Any]:
    """The dictionary of tensors in a PyTorch file, by the restricted unpickler."""
    refuse_hostile(data)
    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    for key in STATE_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ValueError("it holds no dictionary of tensors")
    return content


def _checked(tensors: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Plain finite tensors by name; their number and size are bounded before they are touched."""
    if not tensors:
        raise ValueError("it holds no dictionary of tensors")
    if len(tensors) > MOST_TENSORS:
        raise ValueError(f"it holds {len(tensors)} tensors, {MOST_TENSORS} are the most")
    for key, value in tensors.items():
        plain = (
            isinstance(key, str)
            and isinstance(value, Tensor)
            and value.layout is torch.strided
            and value.device.type == "cpu"
            and value.dtype in DTYPES
        )
        if not plain:
            raise ValueError(f"{key!r} is not a tensor of floating-point numbers")
    if (values := sum(value.numel() for value in tensors.values())) > LARGEST_VALUES:
        raise ValueError(f"it claims {values:,} values, {LARGEST_VALUES:,} are the most")
    for key, value in tensors.items():
        if not bool(torch.isfinite(value.float()).all()):
            raise ValueError(f"{key!r} holds values that are not finite")
    state = {key.removeprefix("module."): value.detach() for key, value in tensors.items()}
    if len(state) != len(tensors):
        raise ValueError("it holds the same tensor with and without 'module.'")
    return state
