"""From a spectrum to the colour that people see, by the CIE 1931 2° observer under D65."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Wavelength in nm, the colour-matching functions x, y, z (CIE 1931, 2°), and CIE D65.
_TABLE = np.array(
    """
    400 0.01431 0.000396 0.06785 82.7549
    410 0.04351 0.00121 0.2074 91.486
    420 0.13438 0.004 0.6456 93.4318
    430 0.2839 0.0116 1.3856 86.6823
    440 0.34828 0.023 1.74706 104.865
    450 0.3362 0.038 1.77211 117.008
    460 0.2908 0.06 1.6692 117.812
    470 0.19536 0.09098 1.28764 114.861
    480 0.09564 0.13902 0.81295 115.923
    490 0.03201 0.20802 0.46518 108.811
    500 0.0049 0.323 0.272 109.354
    510 0.0093 0.503 0.1582 107.802
    520 0.06327 0.71 0.07825 104.79
    530 0.1655 0.862 0.04216 107.689
    540 0.2904 0.954 0.0203 104.405
    550 0.43345 0.99495 0.00875 104.046
    560 0.5945 0.995 0.0039 100
    570 0.7621 0.952 0.0021 96.3342
    580 0.9163 0.87 0.00165 95.788
    590 1.0263 0.757 0.0011 88.6856
    600 1.0622 0.631 0.0008 90.0062
    610 1.0026 0.503 0.00034 89.5991
    620 0.85445 0.381 0.00019 87.6987
    630 0.6424 0.265 5e-05 83.2886
    640 0.4479 0.175 2e-05 83.6992
    650 0.2835 0.107 0 80.0268
    660 0.1649 0.061 0 80.2146
    670 0.0874 0.032 0 82.2778
    680 0.04677 0.017 0 78.2842
    690 0.0227 0.00821 0 69.7213
    700 0.0113592 0.004102 0 71.6091
    """.split(),  # noqa: SIM905 - a table is easier to compare with the standard
    dtype=np.float64,
).reshape(-1, 5)
OBSERVER_NM: NDArray[np.float64] = _TABLE[:, 0]
OBSERVER: NDArray[np.float64] = _TABLE[:, 1:4]  # (31, 3)
D65: NDArray[np.float64] = _TABLE[:, 4]  # (31,)
XYZ_TO_SRGB = np.array(  # IEC 61966-2-1, linear light, white D65
    [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
)
BRADFORD = np.array(  # XYZ to the responses in which a white is adapted
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def bands_to_srgb(
    wavelengths_nm: Sequence[float], lamp: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Matrix from reflectances to linear sRGB, with a perfect white at (1, 1, 1).

    Bands that are not 10 nm apart stand for the wavelengths nearest to them: the tables are
    interpolated between the bands' centres as straight lines would be, so every wavelength counts.

    Args:
        wavelengths_nm: Centres of the bands, ascending.
        lamp: Power of the light at ``OBSERVER_NM``, any scale, (31,); D65 when ``None``. Another
            light is adapted to D65 (Bradford), as a camera's white balance does.

    Shape:
        → (3, bands).
    """
    light = D65 if lamp is None else lamp
    hats = _hats(np.asarray(wavelengths_nm, dtype=np.float64))  # (31, bands)
    weighted = OBSERVER * light[:, None]  # (31, 3)
    xyz = weighted.T @ hats / weighted[:, 1].sum()  # (3, bands)
    white, target = BRADFORD @ xyz.sum(1), BRADFORD @ np.linalg.solve(XYZ_TO_SRGB, np.ones(3))
    adapted = np.linalg.solve(BRADFORD, (target / white)[:, None] * (BRADFORD @ xyz))
    return XYZ_TO_SRGB @ adapted


def _hats(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of each band is meant at ``OBSERVER_NM``: rows sum to 1, (31, bands)."""
    identity = np.eye(len(centres))
    return np.stack([np.interp(OBSERVER_NM, centres, band) for band in identity], 1)


def srgb_encoded(linear: NDArray[np.floating]) -> NDArray[np.floating]:
    """The sRGB curve, any shape: linear light → code values, both in [0, 1], clamped."""
    light = np.clip(linear, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def srgb_decoded(encoded: NDArray[np.floating]) -> NDArray[np.floating]:
    """The inverse curve, any shape: code values in [0, 1] → linear light in [0, 1]."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
