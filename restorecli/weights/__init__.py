"""Checkpoints: the registry, and files to tensors."""

from __future__ import annotations

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
    "PublishedSetting",
    "Registry",
    "WeightEntry",
    "read_registry",
    "registry",
    "size_text",
]
