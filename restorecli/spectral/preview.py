"""What a cube looks like, and some of its spectra, gathered while its rows go by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from restorecli.spectral.observer import bands_to_srgb, srgb_encoded

SAMPLES_PX = 96  # longest side of the grid of spectra on a page
PREVIEW_PX = 640  # longest side of the picture on a page


class Preview:
    """sRGB of every row under D65, and spectra on a grid; for pictures of any size.

    Attributes:
        picture: uint8 (H, W, 3).
        samples: float32 (bands, rows, columns), from the middles of equal cells.
    """

    def __init__(self, shape: tuple[int, int, int], wavelengths_nm: Sequence[float]) -> None:
        bands, height, width = shape
        self.picture = np.zeros((height, width, 3), np.uint8)
        step = max(1, -(-max(height, width) // SAMPLES_PX))
        self.rows = np.arange(step // 2, height, step) if height > step // 2 else np.arange(1)
        self.columns = np.arange(step // 2, width, step) if width > step // 2 else np.arange(1)
        self.samples = np.zeros((bands, len(self.rows), len(self.columns)), np.float32)
        self._matrix = bands_to_srgb(wavelengths_nm).astype(np.float32)

    def add(self, top: int, rows: NDArray[np.floating]) -> None:
        """Look at ``rows`` (bands, r, W), the first of which is row ``top``."""
        linear = np.tensordot(rows, self._matrix, (0, 1))  # (r, W, 3)
        count = rows.shape[1]
        self.picture[top : top + count] = np.rint(srgb_encoded(linear) * 255)
        inside = (self.rows >= top) & (self.rows < top + count)
        if inside.any():
            self.samples[:, inside] = rows[:, self.rows[inside] - top][:, :, self.columns]
