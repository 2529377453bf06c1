"""The networks, by the name that weights.toml uses."""

from __future__ import annotations

from torch import nn

from restorecli.networks.glmha_restormer import GLMHARestormer
from restorecli.networks.hint import HINT
from restorecli.networks.restormer import Restormer

NETWORKS: dict[str, type[nn.Module]] = {
    "restormer": Restormer,
    "hint": HINT,
    "glmha_restormer": GLMHARestormer,
}

__all__ = ["HINT", "NETWORKS", "GLMHARestormer", "Restormer"]
