"""A checkpoint to a network that runs: hash, safe load, strict fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from restorecli.errors import WeightsError
from restorecli.networks import Network, SpectralNetwork
from restorecli.weights.choice import CheckpointFile
from restorecli.weights.fitting import architecture_of, as_published, build, fill
from restorecli.weights.reading import Checkpoint, read_checkpoint
from restorecli.weights.registry import Options, WeightEntry

Place = Path | CheckpointFile  # of a file of the user's own


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A network in evaluation mode, and what it is."""

    network: Network
    id: str  # registry id, or the file's name
    sha256: str  # of the file as published
    channels: int  # that an image must have: 3, or 1 for gray networks
    turns: bool = False  # the way up in which it removes more is found for each picture


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSpectralModel:
    """A network for spectra in evaluation mode, and what it is."""

    network: SpectralNetwork
    id: str  # registry id, or the file's name
    sha256: str  # of the file as published


def load_model(entry: WeightEntry | None, weights: Place | None) -> LoadedModel:
    """Build the network of ``entry``, or the one that ``weights`` fits, and fill it.

    Args:
        entry: Architecture, and the file unless ``weights`` is given.
        weights: A .safetensors or .pth file of the user's own.

    Raises ``WeightsError`` when a file is missing, damaged, altered, unsafe or does not fit.
    """
    network, name, sha256 = load_network(entry, weights)
    if not isinstance(network, Network):
        raise WeightsError(
            f"{name} makes spectra of pictures; it does not restore them.",
            hint="Use it with `restore spectral`.",
        )
    return LoadedModel(
        network=network,
        id=name,
        sha256=sha256,
        channels=network.ends.inp_channels,
        turns=entry is not None and entry.turns,
    )


def load_spectral_model(entry: WeightEntry | None, weights: Place | None) -> LoadedSpectralModel:
    """The same for a network whose results are spectra; ``WeightsError`` also for any other."""
    network, name, sha256 = load_network(entry, weights)
    if isinstance(network, Network):
        raise WeightsError(
            f"{name} restores pictures; it makes no spectra.",
            hint="`restore models list` shows which networks do.",
        )
    return LoadedSpectralModel(network=network, id=name, sha256=sha256)


def load_network(
    entry: WeightEntry | None, weights: Place | None
) -> tuple[Network | SpectralNetwork, str, str]:
    """Any network in evaluation mode, its id or file name, and the sha256 of its file."""
    if weights is not None:
        checkpoint = read_checkpoint(weights)
        return _filled(checkpoint, entry), checkpoint.path.name, checkpoint.sha256
    assert entry is not None  # one of the two is always given
    if entry.path is None:
        raise WeightsError(f"{entry.id} is not installed.", hint=how_to_get(entry))
    checkpoint = read_checkpoint(entry.path)
    expected = entry.sha256 if entry.is_bundled else entry.path.stem
    if checkpoint.sha256 != expected:
        again = "Install restorecli again." if entry.is_bundled else how_to_get(entry)
        raise WeightsError(
            f"{entry.path} was altered: its sha256 is {checkpoint.sha256[:12]}…, "
            f"expected {str(expected)[:12]}….",
            hint=again,
        )
    return _filled(checkpoint, entry), entry.id, str(entry.sha256)


def how_to_get(entry: WeightEntry) -> str:
    """What to do about a checkpoint that is not on this machine."""
    if entry.url:
        return f"`restore models download {entry.id}` gets it."
    return f"Bring {entry.file_name}: `restore models import {entry.file_name} --id {entry.id}`."


def _filled(checkpoint: Checkpoint, entry: WeightEntry | None) -> Network | SpectralNetwork:
    """The network of the file's own word, else of ``entry``, else by its keys and shapes."""
    state = as_published(checkpoint.state)
    if entry is not None and "network" not in checkpoint.described:
        architecture: tuple[str, Options] = entry.network, dict(entry.options)
    else:
        architecture = architecture_of(checkpoint.path, checkpoint.described, state)
    network = build(checkpoint.path, *architecture)
    fill(network, state, checkpoint.path, architecture[0])
    return network.eval()
