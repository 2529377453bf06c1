"""Checkpoints: the registry, and files to tensors."""

from __future__ import annotations

from restorecli.weights.choice import CheckpointFile, ChosenModel, choose_model
from restorecli.weights.registry import (
    SPECTRAL_TASKS,
    TASKS,
    PublishedSetting,
    Registry,
    WeightEntry,
    read_registry,
    registry,
    size_text,
)

__all__ = [
    "SPECTRAL_TASKS",
    "TASKS",
    "CheckpointFile",
    "ChosenModel",
    "PublishedSetting",
    "Registry",
    "WeightEntry",
    "choose_model",
    "read_registry",
    "registry",
    "size_text",
]
