"""A checkpoint file to a network that runs: hash, safe load, strict fit."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from restorecli.errors import WeightsError
from restorecli.networks import NETWORKS, Network
from restorecli.weights.registry import WeightEntry

STATE_KEYS = ("params_ema", "params", "state_dict")  # where published files keep their tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A network in evaluation mode, and what it is."""

    network: Network
    id: str  # registry id, or the file's name
    sha256: str  # of the file as it was read
    channels: int  # that an image must have: 3, or 1 for gray networks


def load_model(entry: WeightEntry | None, weights: Path | None) -> LoadedModel:
    """Build the network of ``entry``, or of the metadata in ``weights``, and fill it.

    Args:
        entry: Architecture, and the file unless ``weights`` is given.
        weights: A .safetensors or .pth file of the user's own.

    Raises ``WeightsError`` when a file is missing, damaged, altered, unsafe or does not fit.
    """
    path = weights or (entry.path if entry else None)
    if path is None:
        assert entry is not None  # one of the two is always given
        raise WeightsError(
            f"{entry.id} is not on this machine.",
            hint=f"Get {entry.file_name}{f' from {entry.url}' if entry.url else ''} "
            "and add --weights FILE.",
        )
    data = _read(path)
    digest = hashlib.sha256(data).hexdigest()
    if weights is None and entry is not None and digest != entry.sha256:
        raise WeightsError(
            f"{path.name} is not the file that weights.toml describes: sha256 is {digest[:12]}…, "
            f"expected {str(entry.sha256)[:12]}….",
            hint="Install restorecli again.",
        )
    state, described = _tensors(path, data)
    name, options = _architecture(path, described, entry, own_file=weights is not None)
    network = _build(path, name, options)
    _fill(network, state, path.name, name)
    channels = network.get_parameter("patch_embed.proj.weight").shape[1]
    label = entry.id if entry and weights is None else path.name
    return LoadedModel(network=network.eval(), id=label, sha256=digest, channels=channels)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise WeightsError(f"There is no weights file {path}.", hint="Check the name.") from error
    except OSError as error:
        raise WeightsError(f"Cannot read weights {path}: {error.strerror or error}.") from error


def _tensors(path: Path, data: bytes) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """State dict in float32, and the metadata of a safetensors file. Never unpickles code."""
    try:
        if _is_safetensors(data):
            state, described = safetensors.torch.load(data), _metadata(data)
        else:
            state, described = _unpickled(path), {}
    except (SafetensorError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise WeightsError(
            f"{path} is not a usable checkpoint: {reason}.",
            hint="Expected .safetensors, or a .pth of plain tensors.",
        ) from error
    for key, value in state.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise WeightsError(f"{path}: {key!r} is not a tensor of floating-point numbers.")
        if not torch.isfinite(value).all():
            raise WeightsError(f"{path}: {key!r} holds values that are not finite.")
    return {key.removeprefix("module."): value.float() for key, value in state.items()}, described


def _metadata(data: bytes) -> Mapping[str, str]:
    """What a safetensors file says of itself, from its JSON header."""
    (length,) = struct.unpack_from("<Q", data)
    described: dict[str, str] = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return described


def _is_safetensors(data: bytes) -> bool:
    """Eight bytes of header length, then JSON."""
    if len(data) < 9:
        return False
    (length,) = struct.unpack_from("<Q", data)
    return bool(0 < length <= len(data) - 8 and data[8:9] == b"{")


def _unpickled(path: Path) -> dict[str, Tensor]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    for key in STATE_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise ValueError("it holds no dictionary of tensors")
    return content


def _architecture(
    path: Path, described: Mapping[str, str], entry: WeightEntry | None, *, own_file: bool
) -> tuple[str, Mapping[str, Any]]:
    """Network name and options: of the file itself if it says so, else of the registry entry."""
    if own_file and "network" in described:
        try:
            return described["network"], json.loads(described.get("options", "{}"))
        except json.JSONDecodeError as error:
            raise WeightsError(f"{path}: its options are not JSON.") from error
    if entry is None:
        raise WeightsError(
            f"{path} does not say which network it fits.",
            hint="Name a model of the same network: --model ID (`restore models list`).",
        )
    return entry.network, entry.options


def _build(path: Path, name: str, options: Mapping[str, Any]) -> Network:
    if name not in NETWORKS:
        raise WeightsError(f"{path} is for an unknown network {name!r}.")
    try:
        with torch.device("meta"):  # no time for random numbers that are overwritten at once
            return NETWORKS[name](**options)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its options do not fit {name}: {error}.") from error


def _fill(network: Network, state: Mapping[str, Tensor], file: str, name: str) -> None:
    """Assign ``state`` strictly: the first difference is named."""
    expected = network.state_dict()
    missing = [key for key in expected if key not in state]
    unknown = [key for key in state if key not in expected]
    for keys, what in ((missing, "missing"), (unknown, "unknown")):
        if keys:
            raise WeightsError(
                f"{file} does not fit {name}: {len(keys)} keys {what}, first {keys[0]!r}."
            )
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise WeightsError(
                f"{file} does not fit {name}: {key!r} is {tuple(value.shape)}, "
                f"expected {tuple(expected[key].shape)}."
            )
    network.load_state_dict(dict(state), strict=True, assign=True)
