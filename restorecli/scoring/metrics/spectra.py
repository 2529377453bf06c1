"""Scores of reconstructed spectra: PSNR, RMSE, relative error and spectral angle, by protocol.

A relative error is infinite where the reference is 0, and an angle has no meaning in the dark, so
both say from which values on they count.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restorecli.errors import InputError, UsageError
from restorecli.scoring.metrics.pixels import ssim

Bands = NDArray[Any]  # (bands, H, W), nominally [0, 1]
MRAE_FLOOR = 1 / 255  # smaller references are left out of the relative error
BRIGHT_MEAN = 0.02  # spectra of a smaller mean are left out of the second angle
CROP_PX = 128  # left out on every side by NTIRE
LEVELS = 255
ROWS = 64  # scored at a time, so that float64 copies stay small


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralProtocol:
    """One way to score cubes, in words, and its function."""

    name: str
    summary: str
    source: str
    scores: Callable[[Bands, Bands], dict[str, float]]
    keys: tuple[str, ...]  # names of the scores
    lower_is_better: tuple[str, ...] = ("mrae", "mrae_floor", "rmse", "sam", "sam_bright")


def sums(restored: Bands, reference: Bands) -> dict[str, float]:
    """What the scores of two cubes are made of, added up in float64 over all pixels."""
    total = dict.fromkeys(
        ("squares", "clamped", "relative", "floored", "floored_count", "angle", "bright",
         "angle_count", "bright_count"), 0.0,
    )  # fmt: skip
    for top in range(0, reference.shape[1], ROWS):
        y, x = (np.asarray(c[:, top : top + ROWS], np.float64) for c in (restored, reference))
        error = y - x
        total["squares"] += float((error**2).sum())
        total["clamped"] += float(((y.clip(0, 1) - x.clip(0, 1)) ** 2).sum())
        relative = np.divide(np.abs(error), x, out=np.full_like(x, np.inf), where=x > 0)
        relative[(x <= 0) & (error == 0)] = 0
        total["relative"] += float(relative.sum())
        bright_values = x >= MRAE_FLOOR
        total["floored"] += float(relative[bright_values].sum())
        total["floored_count"] += int(bright_values.sum())
        angles, valid = spectral_angles(y, x)
        bright = valid & (x.mean(0) >= BRIGHT_MEAN)
        total["angle"] += float(angles[valid].sum())
        total["angle_count"] += int(valid.sum())
        total["bright"] += float(angles[bright].sum())
        total["bright_count"] += int(bright.sum())
    return total


def spectral_angles(restored: Bands, reference: Bands) -> tuple[Bands, NDArray[np.bool_]]:
    """Angle between two spectra at every pixel in degrees, and where there is one.

    Shape:
        restored, reference: (bands, H, W) → (H, W) float64, and (H, W), false where either is 0.
    """
    lengths = np.sqrt((restored**2).sum(0)) * np.sqrt((reference**2).sum(0))
    valid = lengths > 0
    cosine = (restored * reference).sum(0) / np.where(valid, lengths, 1)
    return np.degrees(np.arccos(cosine.clip(-1, 1))), valid


def _ratio(total: float, count: float) -> float:
    return total / count if count else float("nan")


def _psnr(mean_square: float) -> float:
    return float("inf") if mean_square == 0 else float(-10 * np.log10(mean_square))


def _shared(restored: Bands, reference: Bands) -> dict[str, float]:
    total = sums(restored, reference)
    scores = {
        "psnr_bands": _psnr(total["clamped"] / reference.size),
        "rmse": float(np.sqrt(total["squares"] / reference.size)),
        "mrae_floor": _ratio(total["floored"], total["floored_count"]),
        "sam": _ratio(total["angle"], total["angle_count"]),
        "sam_bright": _ratio(total["bright"], total["bright_count"]),
    }
    return {name: value for name, value in scores.items() if not np.isnan(value)}


def _cave(restored: Bands, reference: Bands) -> dict[str, float]:
    return _shared(restored, reference)


def _ntire(restored: Bands, reference: Bands) -> dict[str, float]:
    if min(reference.shape[1:]) <= 2 * CROP_PX:
        height, width = reference.shape[1:]
        raise InputError(
            f"ntire2022 leaves out {CROP_PX} pixels on every side; {height}×{width} has no more.",
            hint="Score with --protocol cave.",
        )
    inner = slice(CROP_PX, -CROP_PX)
    y, x = (cube[:, inner, inner] for cube in (restored, reference))
    total = sums(y, x)
    return {
        "mrae": total["relative"] / x.size,
        "rmse": float(np.sqrt(total["squares"] / x.size)),
        "psnr_bands": _psnr(total["clamped"] / x.size),
    }


def _kaist(restored: Bands, reference: Bands) -> dict[str, float]:
    values = [
        np.rint(np.asarray(cube, np.float64).clip(0, 1) * LEVELS).astype(np.uint8)
        for cube in (restored, reference)
    ]
    psnrs, ssims = [], []
    for y, x in zip(*values, strict=True):
        psnrs.append(_psnr(float(((y.astype(float) - x) ** 2).mean()) / LEVELS**2))
        ssims.append(ssim(y, x, data_range=LEVELS))
    return {"psnr_bands": float(np.mean(psnrs)), "ssim_bands": float(np.mean(ssims))}


_ALL = (
    SpectralProtocol(
        name="cave",
        summary="any cubes, such as CAVE's: the whole picture",
        source="PSNR of values clamped to [0, 1], over all bands together, peak 1; RMSE not "
        "clamped; mrae_floor is the mean of |ŷ−y|/y where y ≥ 1/255; sam the mean angle in "
        "degrees (zero spectra left out), sam_bright that of pixels whose mean is at least 0.02",
        scores=_cave,
        keys=("psnr_bands", "rmse", "mrae_floor", "sam", "sam_bright"),
    ),
    SpectralProtocol(
        name="ntire2022",
        summary="ARAD-1K validation, 482×512",
        source="MST++ (Cai et al., CVPRW 2022): 128 pixels left out on every side; MRAE and RMSE "
        "not clamped, without a floor, so infinite where the reference is 0; PSNR of values "
        "clamped to [0, 1], over all bands together, peak 1",
        scores=_ntire,
        keys=("psnr_bands", "rmse", "mrae"),
    ),
    SpectralProtocol(
        name="kaist",
        summary="the ten simulated CASSI scenes, 256×256, 28 bands",
        source="MST (Cai et al., CVPR 2022), the MATLAB script: cubes clamped and rounded to 8 "
        "bits, PSNR and SSIM (11×11 Gaussian, σ 1.5, valid area) of every band, then the mean",
        scores=_kaist,
        keys=("psnr_bands", "ssim_bands"),
    ),
)
SPECTRAL_PROTOCOLS: dict[str, SpectralProtocol] = {protocol.name: protocol for protocol in _ALL}


def find_spectral_protocol(name: str) -> SpectralProtocol:
    """Look a protocol for cubes up by name; `UsageError` suggests the nearest."""
    if found := SPECTRAL_PROTOCOLS.get(name.lower()):
        return found
    near = difflib.get_close_matches(name.lower(), SPECTRAL_PROTOCOLS, n=1)
    suggestion = f"Did you mean {near[0]!r}? " if near else ""
    raise UsageError(
        f"Unknown protocol for cubes {name!r}.",
        hint=f"{suggestion}Known: {', '.join(SPECTRAL_PROTOCOLS)}.",
    )


def score_cubes(restored: Bands, reference: Bands, protocol: SpectralProtocol) -> dict[str, float]:
    """Scores of ``restored`` under ``protocol``.

    Args:
        restored: (bands, H, W), nominally [0, 1].
        reference: The same shape.
        protocol: What to leave out, to clamp and to average.

    Raises:
        InputError: The shapes differ, or nothing remains to be scored.
    """
    if restored.shape != reference.shape:
        raise InputError(
            f"The cube is {_shape_text(restored)}, the reference {_shape_text(reference)}.",
            hint="Score cubes of the same bands and size.",
        )
    return protocol.scores(restored, reference)


def _shape_text(bands: Bands) -> str:
    count, height, width = bands.shape
    return f"{width}×{height} pixels of {count} bands"
