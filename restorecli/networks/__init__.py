"""The networks, by the name that weights.toml uses."""

from __future__ import annotations

import torch
from torch import nn

from restorecli.networks.glmha_restormer import GLMHARestormer
from restorecli.networks.hint import HINT
from restorecli.networks.restormer import Restormer

NETWORKS: dict[str, type[nn.Module]] = {
    "restormer": Restormer,
    "hint": HINT,
    "glmha_restormer": GLMHARestormer,
}


def channels_last(network: nn.Module) -> nn.Module:
    """``network`` with its kernels in the layout that is fastest for features of (B, H, W, C)."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


__all__ = ["HINT", "NETWORKS", "GLMHARestormer", "Restormer", "channels_last"]
