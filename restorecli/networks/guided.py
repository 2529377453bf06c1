"""The guided filter: smooth maps whose edges are those of a picture.

He, Sun and Tang, Guided Image Filtering, TPAMI 2013; on a coarser grid as in He and Sun, Fast
Guided Filter, 2015. In every window the result is a linear function of the guide, so it cannot have
an edge or a texture that the guide has not. Of torch alone, for every device, batches and
gradients; `degradations.haze.follow_edges`, which helps to make haze, is for one gray plane.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from restorecli.networks.blocks import WITHOUT_FLOAT64

EPS = 1e-4  # of the guide's variance, [0, 1]²: what varies less than 0.01 counts as smooth
COARSER = 4  # side of the squares of one element of the grid on which windows are taken


def guided_filter(maps: Tensor, guide: Tensor, radius: int) -> Tensor:
    """Each map as a locally linear function of the channels of ``guide``.

    Windows are squares of about 2·radius + 1, cut off at the edges. Their statistics are float64
    where the device has it. No value is beyond those of the map: a single lamp in a smooth sky is
    far from what the window's slope was found on.

    Args:
        maps: (B, C, h, w), any float dtype, h and w at least 4.
        guide: (B, G, h, w), nominally [0, 1], any float dtype.
        radius: In elements of the maps, at least 1.

    Shape:
        → (B, C, h, w), dtype of ``maps``.
    """
    wide = maps.dtype if maps.device.type in WITHOUT_FLOAT64 else torch.float64
    coarse_maps, coarse_guide = (coarser(x).to(wide) for x in (maps, guide))
    radius = max(1, round(radius / COARSER))
    means = [window_mean(g, radius) for g in planes(coarse_guide)]
    factors = _factors(planes(coarse_guide), means, radius)
    result = torch.empty_like(maps)
    for c, single in enumerate(planes(coarse_maps)):
        of_window = window_mean(single, radius)
        covariances = [
            window_mean(g * single, radius) - mean * of_window
            for g, mean in zip(planes(coarse_guide), means, strict=True)
        ]
        slopes = _solved(factors, covariances)
        offset = of_window - sum(s * mean for s, mean in zip(slopes, means, strict=True))
        smooth = torch.cat([window_mean(x, radius) for x in (*slopes, offset)], 1)
        fine = F.interpolate(smooth.to(maps.dtype), size=maps.shape[2:], mode="bilinear")
        result[:, c] = (fine[:, :-1] * guide.to(maps.dtype)).sum(1) + fine[:, -1]
    return result.clamp_(maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True))


def planes(x: Tensor) -> Sequence[Tensor]:
    """The channels, one by one: (B, C, h, w) → C of (B, 1, h, w)."""
    return x.split(1, dim=1)


def coarser(x: Tensor) -> Tensor:
    """Means of squares, as much of them as there is: (B, C, h, w) → (B, C, ⌈h/4⌉, ⌈w/4⌉)."""
    return F.avg_pool2d(x, COARSER, ceil_mode=True, count_include_pad=False)


def window_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over the window of every element, as much of it as there is: (B, C, h, w) → the same."""
    for axis in (-2, -1):
        length = x.shape[axis]
        place = torch.arange(length, device=x.device)
        start, stop = (place - radius).clamp_min(0), (place + radius + 1).clamp_max(length)
        sums = x.cumsum(axis)
        sums = torch.cat([torch.zeros_like(sums.narrow(axis, 0, 1)), sums], axis)
        window = sums.index_select(axis, stop) - sums.index_select(axis, start)
        number = (stop - start).to(x.dtype)
        x = window / (number.unsqueeze(-1) if axis == -2 else number)
    return x


Factors = list[tuple[list[Tensor], Tensor]]  # of each row: L left of the diagonal, and D


def _factors(guide: Sequence[Tensor], means: Sequence[Tensor], radius: int) -> Factors:
    """Covariance of the guide's channels plus ε as L·D·Lᵀ, in every window.

    Shape:
        guide, means: G planes of (B, 1, h, w) each → the same.
    """
    rows: Factors = []
    for i, (g, mean) in enumerate(zip(guide, means, strict=True)):
        lower: list[Tensor] = []
        for j in range(i + 1):
            entry = window_mean(g * guide[j], radius) - mean * means[j]
            for k in range(j):
                entry = entry - lower[k] * (rows[j][0][k] if j < i else lower[k]) * rows[k][1]
            if j < i:
                lower.append(entry / rows[j][1])
            else:
                rows.append((lower, entry + EPS))
    return rows


def _solved(factors: Factors, right: Sequence[Tensor]) -> list[Tensor]:
    """What the covariance must be multiplied by to give ``right``.

    Shape:
        right: G planes of (B, 1, h, w) → the same.
    """
    found: list[Tensor] = []
    for (lower, _), entry in zip(factors, right, strict=True):
        found.append(entry - sum(a * x for a, x in zip(lower, found, strict=True)))
    found = [x / diagonal for x, (_, diagonal) in zip(found, factors, strict=True)]
    for i in reversed(range(len(found))):
        for j in range(i):
            found[j] = found[j] - factors[i][0][j] * found[i]
    return found
