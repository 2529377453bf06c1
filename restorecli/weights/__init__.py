"""Checkpoints: the registry, and files to tensors."""

from __future__ import annotations

from restorecli.weights.registry import (
    TASKS,
    PublishedSetting,
    Registry,
    WeightEntry,
    read_registry,
    registry,
    size_text,
)

__all__ = [
    "TASKS",
    "PublishedSetting",
    "Registry",
    "WeightEntry",
    "read_registry",
    "registry",
    "size_text",
]
