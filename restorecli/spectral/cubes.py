"""A cube of spectra in memory, and what its bands are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RGB_NM: tuple[float, ...] = tuple(float(nm) for nm in range(400, 701, 10))
CASSI_NM: tuple[float, ...] = (
    453.5, 457.5, 462.0, 466.0, 471.5, 476.5, 481.5, 487.0, 492.5, 498.0, 504.0, 510.0, 516.0,
    522.5, 529.5, 536.5, 544.0, 551.5, 558.5, 567.5, 575.5, 584.5, 594.5, 604.0, 614.5, 625.0,
    636.5, 648.0,
)  # fmt: skip
KNOWN_NM = {len(RGB_NM): RGB_NM, len(CASSI_NM): CASSI_NM}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cube:
    """Spectra of every pixel: bands (bands, H, W), nominally [0, 1], and their centres in nm."""

    bands: NDArray[Any]
    wavelengths_nm: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.bands.ndim != 3 or len(self.bands) != len(self.wavelengths_nm):
            raise ValueError(
                f"{len(self.wavelengths_nm)} wavelengths, bands of shape {self.bands.shape}"
            )


def band_names(wavelengths_nm: Sequence[float]) -> list[str]:
    """What bands are called in files: ``550 nm``."""
    return [f"{nm:g} nm" for nm in wavelengths_nm]


def as_float(bands: NDArray[Any]) -> NDArray[np.floating]:
    """Bands as floats: integers are divided by the largest value of their type, any shape."""
    if np.issubdtype(bands.dtype, np.integer):
        return bands.astype(np.float32) / np.float32(np.iinfo(bands.dtype).max)
    return bands
