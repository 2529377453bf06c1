"""What a restoration added to regions that were smooth: mottle, banding and tint, in CIELAB units.

Skies and walls show first what a network invents, and no mean over a picture does. More contrast
is not invented: where the result is ``a·before + b`` with values that hardly change over a window,
nothing is found, whatever ``a`` is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW_PX = 17  # side of the window in which a result is explained by what it was made of
SCALES = (1, 4)  # full size, and a quarter: stains of up to 70 px
SMOOTH = 1.5  # standard deviation of L* in a window, less fine grain, below which it is smooth
GRAIN_PX = 1.5  # σ of the Gaussian that takes the grain away before that is judged
GRAIN = 4.0  # standard deviation of L* at full size that may still be grain, and is no texture
DARK = 25.0  # L* below which grain and tint cannot be told from the noise of a night
NEUTRAL = 15.0  # chroma below which a region is near white or gray
LARGEST_GAIN = 10.0  # more contrast than this is not taken for an honest gain
FEWEST = 0.005  # share of the picture that must be smooth for there to be a figure

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stains:
    """What was added to smooth regions; ``None`` where the picture has (nearly) none.

    Attributes:
        smooth_share: Share of the picture that is smooth and not dark, 0…1.
        mottle: Root mean square of the local deviation of L* that the picture itself does not
            explain, over all smooth windows of the worse of two scales.
        roughness: Standard deviation of L* that smooth windows gained, explained or not.
        tint: Root mean square colour (a*, b*) that near-neutral smooth regions gained, less what
            more contrast explains.
    """

    smooth_share: float
    mottle: float | None
    roughness: float | None
    tint: float | None


def stains(before: NDArray[Any], after: NDArray[Any]) -> Stains:
    """Compare two pictures of one size: uint8 or uint16 RGB (H, W, 3) or gray (H, W).

    What is dark is not judged: to brighten a night shows what was hidden in it.

    Raises ``ValueError`` when the sizes differ.
    """
    if before.shape[:2] != after.shape[:2]:
        raise ValueError(f"sizes differ: {before.shape[:2]} and {after.shape[:2]}")
    planes = [_lab(image) for image in (before, after)]
    planes.append(_variance(planes[0][..., :1]))
    found = [_at_scale(*(_smaller(x, scale) for x in planes)) for scale in SCALES]
    share = found[0].smooth_share
    return Stains(
        smooth_share=share,
        mottle=_largest(x.mottle for x in found),
        roughness=_largest(x.roughness for x in found),
        tint=found[0].tint,
    )


def _at_scale(before: Values, after: Values, grain: Values) -> Stains:
    """The figures at one size: two pictures in CIELAB, (H, W, 3), and the variance of grain."""
    smooth = _is_smooth(before[..., 0]) & (grain[..., 0] < GRAIN**2) & (before[..., 0] > DARK)
    share = float(smooth.mean())
    if share < FEWEST:
        return Stains(smooth_share=share, mottle=None, roughness=None, tint=None)
    rest, gained = _deviations(before[..., 0], after[..., 0])
    return Stains(
        smooth_share=share,
        mottle=float(np.sqrt(rest[smooth].mean())),
        roughness=float(np.sqrt(np.maximum(gained[smooth].mean(), 0))),
        tint=_tint(before[smooth], after[smooth]),
    )


def _is_smooth(light: Values) -> NDArray[np.bool_]:
    """Windows of L* (H, W) in which next to nothing is to be seen."""
    from scipy.ndimage import gaussian_filter

    smooth: NDArray[np.bool_] = (
        _variance(gaussian_filter(light, GRAIN_PX, mode="reflect")) < SMOOTH**2
    )
    return smooth


def _deviations(before: Values, after: Values) -> tuple[Values, Values]:
    """Variance of ``after`` in each window that no line explains, and what it gained in all."""
    mean_x, mean_y = _mean(before), _mean(after)
    var_x, var_y = _variance(before), _variance(after)
    cov = _mean(before * after) - mean_x * mean_y
    slope = np.clip(cov / np.maximum(var_x, 1e-9), 0, LARGEST_GAIN)
    rest = np.maximum(var_y - 2 * slope * cov + slope**2 * var_x, 0)
    return rest, var_y - var_x


def _tint(before: Values, after: Values) -> float | None:
    """Root mean square distance from what contrast explains; pixels in CIELAB, (N, 3) each."""
    neutral = np.hypot(before[:, 1], before[:, 2]) < NEUTRAL
    if not neutral.any():
        return None
    old, new = before[neutral], after[neutral]
    gain = _gain(old[:, 0], new[:, 0])
    along = (old[:, 1:] * new[:, 1:]).sum(axis=1)
    length = np.maximum((old[:, 1:] ** 2).sum(axis=1), 1e-9)
    share = np.clip(along / length, 0, gain)  # of the old colour: it may fade, or grow by the gain
    away = new[:, 1:] - share[:, None] * old[:, 1:]
    return float(np.sqrt((away**2).sum(axis=1).mean()))


def _gain(before: Values, after: Values) -> float:
    """Slope of L* after on L* before over all of a region, at least 1."""
    spread = before - before.mean()
    slope = float((spread * after).sum() / max(float((spread**2).sum()), 1e-9))
    return float(np.clip(slope, 1, LARGEST_GAIN))


def _lab(image: NDArray[Any]) -> Values:
    """CIELAB under D65, (H, W, 3) float64."""
    from skimage.color import rgb2lab

    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    lab: Values = rgb2lab(rgb / float(np.iinfo(image.dtype).max))
    return lab


def _smaller(lab: Values, scale: int) -> Values:
    """The mean of each square of ``scale`` px of (H, W, C); a rest at the edges is left out."""
    if scale == 1:
        return lab
    height, width = (side // scale for side in lab.shape[:2])
    cut = lab[: height * scale, : width * scale]
    squares = cut.reshape(height, scale, width, scale, cut.shape[2])
    means: Values = squares.mean(axis=(1, 3))
    return means


def _variance(plane: Values) -> Values:
    """Of the window around each pixel: (H, W, …) → the same."""
    variance: Values = np.maximum(_mean(plane * plane) - _mean(plane) ** 2, 0)
    return variance


def _mean(plane: Values) -> Values:
    """Of the window around each pixel: (H, W, …) → the same."""
    from scipy.ndimage import uniform_filter

    mean: Values = uniform_filter(plane, WINDOW_PX, mode="reflect", axes=(0, 1))
    return mean


def _largest(values: Any) -> float | None:
    return max((value for value in values if value is not None), default=None)
