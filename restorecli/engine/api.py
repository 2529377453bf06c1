"""The Python interface: the engine that the command uses, without files.

``restorecli.load`` and ``restorecli.restore_image`` are these functions; they are imported when
first used, so that ``import restorecli`` stays light.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restorecli.engine.engine import Engine, prepare
from restorecli.engine.settings import EngineSettings
from restorecli.limits import AUTO, DEFAULT_OVERLAP_PX
from restorecli.weights import CheckpointFile, ChosenModel, registry


def load(
    model: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str = "auto",
    tile_px: int | None = AUTO,
    overlap_px: int = DEFAULT_OVERLAP_PX,
    max_bytes: int | None = None,
    threads: int | None = None,
    offline: bool = False,
) -> Engine:
    """A network ready to restore any number of pictures.

    Args:
        model: An id from ``restore models list``, downloaded first if need be, or the path of a
            .safetensors or .pth file.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        tile_px: Side of a tile; ``None`` for whole pictures; by default what fits into memory.
        overlap_px: What neighbouring tiles share.
        max_bytes: Most memory that the process, or a CUDA device, may hold; by default a share
            of what is free.
        threads: That compute; by default one for each core that this process may use.
        offline: Use no network connection.

    Raises ``WeightsError``, ``DeviceError`` or ``UsageError`` of ``restorecli.errors``.
    """
    settings = EngineSettings(
        model=_chosen(model, offline=offline),
        device=device,
        precision=precision,
        tile=tile_px,
        overlap_px=overlap_px,
        max_bytes=max_bytes,
        threads=threads,
    )
    return prepare(settings)


def _chosen(model: str | os.PathLike[str], *, offline: bool) -> ChosenModel:
    """An entry of the registry, installed, or a file."""
    path = Path(model)
    if not isinstance(model, str) or (model not in registry() and path.exists()):
        return ChosenModel(file=CheckpointFile(path))
    entry = registry()[model]
    if entry.url and not entry.is_installed:
        from restorecli.weights.download import download

        entry = download(entry, offline=offline)
    return ChosenModel(entry=entry)


def restore_image(
    image: NDArray[np.uint8], model: Engine | str | os.PathLike[str], *, device: str = "auto"
) -> NDArray[np.uint8]:
    """Restore one picture: uint8 RGB (H, W, 3) or gray (H, W), 0…255 → the same shape.

    ``model`` is what ``load`` gave, or what ``load`` takes; load it once for several pictures.
    The pixels are those that ``restore`` writes. Raises ``ValueError`` for another dtype or shape.
    """
    if image.dtype != np.uint8 or not (
        image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    ):
        raise ValueError(
            "image must be uint8 of shape (H, W, 3) or (H, W), "
            f"got {image.dtype} of shape {image.shape}"
        )
    engine = model if isinstance(model, Engine) else load(model, device=device)
    restored, _ = engine.restore(np.require(image, requirements="W"))
    return restored
