"""Fit the regression, and print the table of held-out scenes.

``python -m training.spectral.evaluate --cave CAVE_FOLDER --models ID …`` scores models of
``weights.toml`` (or safetensors and checkpoint files) on CAVE's held-out scenes at half size: the
picture is the cube seen by the CIE 1931 observer under D65, in 8-bit sRGB. A CASSI model is
measured through ``--mask``; ``back-projection`` among the models is no network, but each pixel's
share of the measurement. ``--fit FILE`` first writes the regression, fitted to the other scenes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from restorecli.networks import NETWORKS
from restorecli.networks.mst import MSTCassi, cassi_input, cassi_measurement
from restorecli.networks.regression import FEATURES, RootPolynomial, root_polynomials
from restorecli.scoring.metrics.spectra import SPECTRAL_PROTOCOLS, score_cubes
from restorecli.spectral.reading import read_plane
from restorecli.weights import registry
from restorecli.weights.checkpoint import load_spectral_model
from training.spectral.data import (
    HELD_OUT,
    between_bands,
    cassi_bands,
    lamps,
    photographed,
    read_scene,
    scene_names,
)

BACK_PROJECTION = "back-projection"  # what a measurement says by itself, for --models


def photographs(folder: Path, name: str) -> tuple[Tensor, Tensor]:
    """A scene as a photograph in linear light, (1, 3, H, W), and its cube, (1, 31, H, W)."""
    cube = torch.from_numpy(read_scene(folder, name)).unsqueeze(0)
    return photographed(cube, lamps()[:1].float()), cube


def fit(folder: Path) -> Tensor:
    """Least squares of all scenes that are not held out: (31, 13)."""
    gram = torch.zeros(FEATURES, FEATURES, dtype=torch.float64)
    cross = torch.zeros(31, FEATURES, dtype=torch.float64)
    for name in scene_names(folder):
        if name not in HELD_OUT:
            rgb, cube = photographs(folder, name)
            features = root_polynomials(rgb.double()).flatten(2)[0]  # (13, N)
            gram += features @ features.mT
            cross += cube.double().flatten(2)[0] @ features.mT
    ridge = 1e-9 * gram.diagonal().mean() * torch.eye(FEATURES, dtype=torch.float64)
    return torch.linalg.solve(gram + ridge, cross, left=False).float()


def save(
    network: nn.Module, name: str, options: dict[str, Any], facts: dict[str, str], path: Path
) -> None:
    """Write weights with what they are."""
    metadata = {"network": name, "options": json.dumps(options), **facts}
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    safetensors.torch.save_file(state, path, metadata)


def loaded(model: str) -> nn.Module:
    """A network by id, from a safetensors file, or the average of a training checkpoint."""
    if model == BACK_PROJECTION:
        return BackProjection()
    path = Path(model)
    if path.suffix == ".pt":
        state = torch.load(path, map_location="cpu", weights_only=True)
        kind = state["kind"]
        network: nn.Module = NETWORKS[kind["name"]](**kind["options"])
        network.load_state_dict(state["average"])
        return network.eval()
    entry = None if path.exists() else registry()[model]
    return load_spectral_model(entry, path if path.exists() else None).network


class BackProjection(nn.Module):
    """Φᵀ(ΦΦᵀ)⁻¹ y: spreads every value of the measurement over the bands that it may come from."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` as ``cassi_input`` makes it, mask (H, W) → (B, 28, H, W)."""
        bands = x.shape[1]
        through = cassi_measurement(mask.expand(1, bands, -1, -1), mask)  # diagonal of ΦΦᵀ
        weight = cassi_input(through) * (bands / 2)
        return x * (bands / 2) * mask / weight.clamp_min(1e-6)


def reconstruction(network: nn.Module, mask: Tensor | None) -> Callable[[Path, str], Any]:
    """(folder, scene) → clamped cube and the true one, both (bands, H, W)."""

    def of(folder: Path, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rgb, cube = photographs(folder, name)
        with torch.inference_mode():
            if isinstance(network, MSTCassi | BackProjection):
                assert mask is not None
                cube = cassi_bands(cube, between_bands())
                made = network(cassi_input(cassi_measurement(cube, mask)), mask)
            else:
                made = network(rgb)
        return made[0].clamp(0, 1).numpy(), cube[0].numpy()

    return of


def main() -> None:
    """Fit if asked for, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m training.spectral.evaluate", description=__doc__
    )
    parser.add_argument("--cave", type=Path, required=True)
    parser.add_argument("--fit", type=Path, help="write the regression to this file")
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--mask", type=Path)
    parser.add_argument("--protocol", choices=sorted(SPECTRAL_PROTOCOLS), default="cave")
    parser.add_argument("--by-scene", action="store_true")
    args = parser.parse_args()
    if args.fit:
        network = RootPolynomial()
        network.weight.data.copy_(fit(args.cave))
        facts = {"data": "CAVE, 24 scenes at half size, CIE 1931 under D65, 8-bit sRGB"}
        save(network, "root_polynomial", {"out_channels": 31}, facts, args.fit)
    mask = None
    if args.mask:
        mask = torch.from_numpy(read_plane(args.mask, ("mask",), "mask"))
    protocol = SPECTRAL_PROTOCOLS[args.protocol]
    print(f"| model | {' | '.join(protocol.keys)} |\n|---|{'---:|' * len(protocol.keys)}")
    for model in args.models:
        score = reconstruction(loaded(model), mask)
        table = []
        for name in HELD_OUT:
            made, true = score(args.cave, name)
            scores = score_cubes(made, true, protocol)
            table.append([scores[key] for key in protocol.keys])
            if args.by_scene:
                print(f"| {model}: {name} | {' | '.join(f'{v:.4f}' for v in table[-1])} |")
        means = np.mean(table, 0)
        print(f"| {model} | {' | '.join(f'{value:.4f}' for value in means)} |", flush=True)


if __name__ == "__main__":
    main()
