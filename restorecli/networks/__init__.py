"""The networks, by the name that weights.toml uses."""

from __future__ import annotations

from restorecli.networks.glmha_restormer import GLMHARestormer
from restorecli.networks.hint import HINT
from restorecli.networks.restormer import Restormer

Network = Restormer | HINT  # GLMHARestormer is a Restormer

NETWORKS: dict[str, type[Network]] = {
    "restormer": Restormer,
    "hint": HINT,
    "glmha_restormer": GLMHARestormer,
}


__all__ = ["HINT", "NETWORKS", "GLMHARestormer", "Network", "Restormer"]
