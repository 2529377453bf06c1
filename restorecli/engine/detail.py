"""One detail of a picture as the whole would show it, in a moment: what ``--preview`` computes.

Networks look at the whole picture: attention weighs channels by sums over every pixel, at every
depth, so only the whole picture gives exactly its pixels. What can be had at once is taken from the
whole (the tone curve, the way up, whether there is colour); the rest is computed in a window around
the detail, which is the whole picture where that is small.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from restorecli.engine.box import Box, window
from restorecli.engine.chain import Chain
from restorecli.engine.engine import ImageProgress
from restorecli.images import Photo
from restorecli.images.photo import WHITE, Carried

GAP_PX = 8  # of white between before and after


def restored_detail(
    chain: Chain, photo: Photo, box: Box, on_progress: ImageProgress, dtype: np.dtype[np.generic]
) -> tuple[Photo, Photo, Box]:
    """``box`` of a picture before and after ``chain``, and the window that was restored for it."""
    whole = photo.filled()
    around = window(box, photo.size)
    alpha = None if photo.alpha is None else around.of(photo.alpha)
    part = Photo(pixels=around.of(photo.pixels), alpha=alpha)
    pixels = around.of(whole)
    count, after = len(chain.engines), part
    for engine, kind in zip(chain.engines, chain.types(photo.pixels.dtype, dtype), strict=True):
        seeing = replace(engine, whole=whole)
        pixels, _ = seeing.restore(pixels, lambda share: on_progress(share / count), dtype=kind)
        after = part.with_pixels(pixels)
        if after.hidden is not None:  # as the next step would see it
            filled = after.filled()
            pixels = filled[..., 0] if filled.ndim > pixels.ndim else filled
    return _cut(part.in_depth(dtype), box, around), _cut(after, box, around), around


def _cut(part: Photo, box: Box, around: Box) -> Photo:
    place = box.within(around)
    alpha = None if part.alpha is None else place.of(part.alpha)
    return Photo(pixels=place.of(part.pixels), alpha=alpha)


def beside(before: Photo, after: Photo, photo: Photo) -> Photo:
    """Before and after in one picture, whose colours are those of ``photo``; nothing else is kept.

    Where somebody was, and with which camera, is not shown with a detail.
    """
    dtype = after.pixels.dtype
    gap = np.full((len(after.pixels), GAP_PX, *after.pixels.shape[2:]), WHITE[dtype], dtype)
    alpha = None
    if before.alpha is not None and after.alpha is not None:
        alpha = np.hstack([before.alpha, gap if gap.ndim == 2 else gap[..., 0], after.alpha])
    carried = photo.carried
    return Photo(
        pixels=np.hstack([before.pixels, gap, after.pixels]),
        alpha=alpha,
        carried=Carried(
            icc_profile=carried.icc_profile, icc_name=carried.icc_name, colours=carried.colours
        ),
    )
