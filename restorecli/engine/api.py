"""The Python interface: the engine that the command uses, without files.

``restorecli.load`` and ``restorecli.restore_image`` are these functions; they are imported when
first used, so that ``import restorecli`` stays light.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, overload

from numpy.typing import NDArray
from PIL import Image

from restorecli.engine.chain import Chain
from restorecli.engine.engine import Engine, ImageProgress, prepare
from restorecli.engine.given import Given, handed
from restorecli.engine.settings import EngineSettings
from restorecli.errors import OutputError
from restorecli.limits import AUTO, DEFAULT_OVERLAP_PX
from restorecli.weights import CheckpointFile, ChosenModel, registry

ALL_BUT_ROUNDING = 1 - 1e-9


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


Network = Engine | str | os.PathLike[str]
Kind = TypeVar("Kind", NDArray[Any], Image.Image, bytes)


@overload
def restore_image(
    image: Kind,
    model: Network | Sequence[Network],
    *,
    device: str = "auto",
    strength: float = 1.0,
    ensemble: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Kind: ...
@overload
def restore_image(
    image: str | os.PathLike[str],
    model: Network | Sequence[Network],
    *,
    device: str = "auto",
    strength: float = 1.0,
    ensemble: bool = False,
    progress: Callable[[float], None] | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Path: ...
def restore_image(
    image: Given,
    model: Network | Sequence[Network],
    *,
    device: str = "auto",
    strength: float = 1.0,
    ensemble: bool = False,
    progress: Callable[[float], None] | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Given:
    """Restore one picture, and give it back as what it came as.

    Args:
        image: An array (uint8, uint16, or float32 from 0 to 1; RGB (H, W, 3) or gray (H, W)), a
            ``PIL.Image`` (RGB or gray, with or without alpha), the bytes of a picture's file, or
            the path of one.
        model: What ``load`` gave, or what ``load`` takes; several for one after the other. Load
            it once for many pictures.
        device: Where to compute, if ``model`` is not loaded yet.
        strength: Share of the change, from 0 (the picture as it was) to 1.
        ensemble: Take the mean over eight flips and turns.
        progress: Called with the share that is done, from 0 to 1.
        output: Where the result of a path goes; by default beside it, as ``photo.restored.jpg``.
        overwrite: Replace a file that has this name.

    Returns:
        An array of the same type and shape, a ``PIL.Image`` of the same mode, bytes of the same
        format with the metadata of the source, or the path of the file that was written.

    The pixels are those that ``restore`` writes. Raises ``ValueError`` or ``TypeError`` for what is
    no picture, and a ``RestoreError`` of ``restorecli.errors`` for files and networks.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be from 0 to 1, got {strength}")
    if not isinstance(image, (str, os.PathLike)) and (output is not None or overwrite):
        raise ValueError("output and overwrite go with a path only")
    given = handed(image, output)
    if isinstance(image, (str, os.PathLike)) and not overwrite and given.target.exists():
        raise OutputError(
            f"{given.target} exists already.", hint="Give overwrite=True, or another output."
        )
    networks = [model] if isinstance(model, (Engine, str, os.PathLike)) else model
    engines = [one if isinstance(one, Engine) else load(one, device=device) for one in networks]
    chain = Chain(engines=tuple(replace(e, strength=strength, ensemble=ensemble) for e in engines))
    restored, _ = chain.restore(given.photo, _added_up(progress))
    return given.back(restored, overwrite=overwrite)


def _added_up(progress: Callable[[float], None] | None) -> ImageProgress:
    """What tells ``progress`` all that is done whenever a share of it has been."""
    done = 0.0

    def advance(share: float) -> None:
        nonlocal done
        done = min(1.0, done + share)
        if progress is not None:
            progress(1.0 if done > ALL_BUT_ROUNDING else done)

    return advance
