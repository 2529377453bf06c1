"""The networks, by the name that weights.toml uses."""

from __future__ import annotations

from restorecli.networks.glmha_restormer import GLMHARestormer
from restorecli.networks.hint import HINT
from restorecli.networks.mst import MSTRGB, MSTCassi, MSTPlusPlus
from restorecli.networks.regression import RootPolynomial
from restorecli.networks.restormer import Restormer

Network = Restormer | HINT  # picture to picture; GLMHARestormer is a Restormer
SpectralNetwork = MSTPlusPlus | MSTRGB | MSTCassi | RootPolynomial  # to the bands of a spectrum

PICTURE_NETWORKS: dict[str, type[Network]] = {
    "restormer": Restormer,
    "hint": HINT,
    "glmha_restormer": GLMHARestormer,
}
SPECTRAL_NETWORKS: dict[str, type[SpectralNetwork]] = {
    "mst_plus_plus": MSTPlusPlus,
    "mst_rgb": MSTRGB,
    "mst_cassi": MSTCassi,
    "root_polynomial": RootPolynomial,
}
NETWORKS: dict[str, type[Network | SpectralNetwork]] = {**PICTURE_NETWORKS, **SPECTRAL_NETWORKS}


__all__ = [
    "HINT",
    "MSTRGB",
    "NETWORKS",
    "PICTURE_NETWORKS",
    "SPECTRAL_NETWORKS",
    "GLMHARestormer",
    "MSTCassi",
    "MSTPlusPlus",
    "Network",
    "Restormer",
    "RootPolynomial",
    "SpectralNetwork",
]
