"""``--metadata``: what is left of what a photograph carries, and how pixels are turned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from restorecli.images import ifd
from restorecli.images.photo import Carried

Keep = Literal["keep", "safe", "none"]
# What says how colours are meant or how large the picture is printed, and nothing else.
COLOUR_PARTS = {"gAMA", "cHRM", "sRGB", "cICP", "mDCV", "cLLI", "mDCv", "cLLi"}
COLOUR_PARTS |= {f"property {name}" for name in ("pasp", "clli", "mdcv", "cclv", "amve")}
PUBLIC_PARTS = COLOUR_PARTS | {"pHYs", "sBIT", "bKGD"}


def upright(planes: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W, …) as EXIF ``orientation`` 1…8 means it to be seen."""
    if orientation in {5, 6, 7, 8}:
        planes = np.swapaxes(planes, 0, 1)
    if orientation in {3, 4, 7, 8}:
        planes = planes[::-1]
    if orientation in {2, 3, 6, 7}:
        planes = planes[:, ::-1]
    return np.ascontiguousarray(planes)


def reduced(carried: Carried, keep: Keep) -> Carried:
    """What is left of the metadata under ``--metadata``.

    ``safe`` keeps what EXIF says of how the picture was taken, resolution and colours, and drops
    everything that can name a person, a place or a single camera: all other EXIF, XMP, IPTC,
    Photoshop's resources, comments, texts, makers' notes, thumbnails and clips. ``none`` drops all
    but what colours mean.
    """
    if keep == "keep":
        return carried
    kept = PUBLIC_PARTS if keep == "safe" else COLOUR_PARTS
    parts = [p for p in carried.parts if p.name in kept]
    if keep == "safe":
        parts += [p for p in carried.parts if p.name == "APP0" and p.data.startswith(b"JFIF\0")]
    bare = replace(
        carried,
        exif=ifd.public(carried.exif) if carried.exif and keep == "safe" else None,
        xmp=None,
        iptc=None,
        photoshop=None,
        comment=None,
        trailer=b"",
        parts=tuple(parts),
    )
    return bare if keep == "safe" else replace(bare, dpi=None)
