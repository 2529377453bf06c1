"""Cubes against true cubes, for ``restore metrics`` and for pages: found, scored, looked at."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restorecli.errors import InputError, RestoreError
from restorecli.files.regular import is_directory
from restorecli.images.finding import Found, Picture, candidates, relative_to
from restorecli.report import LabelledPicture, Row
from restorecli.scoring.metrics.spectra import SpectralProtocol, score_cubes
from restorecli.scoring.score import Task
from restorecli.spectral.cubes import Cube, as_float
from restorecli.spectral.observer import bands_to_srgb, srgb_encoded
from restorecli.spectral.reading import CUBE_SUFFIXES, MEASUREMENT_NAMES, read_cube, read_plane

LOOK_PX = 1600  # longest side of a rendering
UNLIT = 1e-6  # a measurement whose largest value is less is black


def find_cubes(paths: Sequence[Path]) -> Found:
    """The cubes in ``paths``: files as named, folders with everything below them.

    Endings say what a cube is; of ENVI's two files the data stands for both.

    Raises:
        InputError: A path does not exist or cannot be read, or there is no cube at all.
    """
    cubes: list[Picture] = []
    ignored = 0
    for path in paths:
        if is_directory(path):
            for found in candidates(path, recursive=True, kind_of=_kind):
                if found.error:
                    raise found.error
                if found.kind:
                    cubes.append(Picture(path=found.path, relative=relative_to(found.path, path)))
                else:
                    ignored += found.path.suffix.lower() != ".hdr"
        elif path.exists():
            cubes.append(Picture(path=path, relative=relative_to(path, None)))
        else:
            raise InputError(f"There is no file or folder {str(path)!r}.")
    if not cubes:
        raise InputError(
            f"No cube in {', '.join(repr(str(path)) for path in paths)}.",
            hint=f"Cubes end with {', '.join(CUBE_SUFFIXES)}.",
        )
    folders = any(map(is_directory, paths))
    return Found(pictures=tuple(cubes), ignored=ignored, from_folder=folders)


def _kind(path: Path) -> str | None:
    suffix = path.suffix.lower()
    return suffix if suffix in CUBE_SUFFIXES and suffix != ".hdr" else None


def cube_row(task: Task, *, protocol: SpectralProtocol, other_label: str) -> Row:
    """Scores of one cube; what cannot be scored becomes a failed row."""
    start = time.perf_counter()
    known: dict[str, Any] = {
        "name": task.name,
        "output": str(task.restored),
        "reference": str(task.reference),
    }
    try:
        reference, restored = read_cube(task.reference), read_cube(task.restored)
        _, known["height_px"], known["width_px"] = restored.bands.shape
        known["scores_after"] = scores_of(restored, reference, protocol)
        if task.other is not None:
            other = scores_of(read_cube(task.other), reference, protocol)
            known["others"] = (
                LabelledPicture(label=other_label, path=str(task.other), scores=other),
            )
    except RestoreError as error:
        return Row(**known, status="failed", error=str(error))
    return Row(**known, elapsed_s=time.perf_counter() - start)


def scores_of(made: Cube, true: Cube, protocol: SpectralProtocol) -> dict[str, float]:
    """Scores of two cubes of the same bands.

    Raises:
        InputError: The shapes or the wavelengths differ, or nothing remains to be scored.
    """
    if made.bands.shape == true.bands.shape and not np.allclose(
        made.wavelengths_nm, true.wavelengths_nm, atol=0.5
    ):
        ends = [
            f"{cube.wavelengths_nm[0]:g} to {cube.wavelengths_nm[-1]:g} nm" for cube in (made, true)
        ]
        raise InputError(f"The cube's bands go from {ends[0]}, the reference's from {ends[1]}.")
    return score_cubes(as_float(made.bands), as_float(true.bands), protocol)


def rendering(path: Path) -> NDArray[np.uint8] | None:
    """A cube as sRGB under D65, a measurement in gray: uint8 (H, W, 3), large ones thinned out.

    ``None`` of what is neither.
    """
    if path.suffix.lower() not in CUBE_SUFFIXES:
        return None
    with suppress(InputError):
        cube = read_cube(path)
        step = max(1, max(cube.bands.shape[1:]) // LOOK_PX)
        bands = as_float(cube.bands[:, ::step, ::step])
        matrix = bands_to_srgb(cube.wavelengths_nm).astype(np.float32)
        return _levels(np.tensordot(bands, matrix, (0, 1)))
    with suppress(InputError):
        plane = read_plane(path, MEASUREMENT_NAMES, "measurement")
        gray = plane / max(float(plane.max()), UNLIT)
        return _levels(np.repeat(gray[..., None], 3, -1))
    return None


def _levels(linear: NDArray[np.floating]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(srgb_encoded(linear) * 255).astype(np.uint8)
    return levels
