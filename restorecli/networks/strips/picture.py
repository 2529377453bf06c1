"""A picture that is read a few rows at a time, as the ends of a network see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from restorecli.networks.blocks import MULTIPLE_PX, reflected
from restorecli.networks.ends import Ends, PictureNetwork
from restorecli.networks.exposure import curved, gain_from, histograms

Rows = Callable[[int, int], Tensor]  # (top, bottom) → these rows of an image: (C, r, W)
READ_PIXELS = 2**18  # at a time, for the statistics of a picture


@torch.no_grad()
def picture_gain(network: PictureNetwork, read: Rows, size: tuple[int, int]) -> Tensor | None:
    """Gain of the tone curve in front of ``network`` for a whole picture; ``None`` without one.

    Counts add up exactly, so it is that of the plain forward pass.

    Args:
        network: Restormer, GLMHA-Restormer or HINT.
        read: As for ``restored_rows``; asked once for every row.
        size: (H, W) of the picture.

    Shape:
        → (1,), at least 1.
    """
    ends = network.ends
    if not ends.exposes:
        return None
    height, width = size
    step = max(1, READ_PIXELS // width)
    strips = (read(top, min(top + step, height)) for top in range(0, height, step))
    counts = sum(histograms(rows.unsqueeze(0)) for rows in strips)
    assert isinstance(counts, Tensor)  # a picture has a row
    return gain_from(counts, ends.front_mean, ends.front_mean_lit)


@dataclass(frozen=True, slots=True)
class PaddedImage:
    """An image that is read by rows, reflected until its sides divide; on ``device``."""

    read: Rows
    size: tuple[int, int]
    device: torch.device
    multiple_px: int = MULTIPLE_PX

    @property
    def height(self) -> int:
        """Rows with the padding."""
        return self.size[0] + -self.size[0] % self.multiple_px

    @property
    def width(self) -> int:
        """Columns with the padding."""
        return self.size[1] + -self.size[1] % self.multiple_px

    def rows(self, top: int, bottom: int) -> Tensor:
        """Rows ``top`` … ``bottom`` of the padded image: (C, r, W')."""
        height, width = self.size
        if bottom <= height:
            rows = self.read(top, bottom).to(self.device)
        else:
            index = reflected(torch.arange(top, bottom), height)
            first = int(index.min())
            rows = self.read(first, int(index.max()) + 1).to(self.device)
            rows = rows[:, (index - first).to(self.device)]
        if self.width > width:
            rows = rows[:, :, mirrored(width, self.width, self.device)]
        return rows


@dataclass(frozen=True, slots=True)
class Entrance:
    """What the ends of a network make of a padded image, by rows of the widest features.

    A row of features is ``packing`` rows of the image.
    """

    image: PaddedImage  # padded to the multiple of ``ends``
    ends: Ends
    gain: Tensor | None  # (1,), of the tone curve, if there is one

    @property
    def height(self) -> int:
        """Rows of the widest features."""
        return self.image.height // self.ends.packing

    @property
    def width(self) -> int:
        """Columns of the widest features."""
        return self.image.width // self.ends.packing

    def picture(self, top: int, bottom: int) -> Tensor:
        """What the head starts from, for rows ``top`` … ``bottom``: (C, packing·r, W')."""
        rows = self.image.rows(self.ends.packing * top, self.ends.packing * bottom)
        if self.ends.exposes and self.gain is not None:
            rows = curved(rows.unsqueeze(0), self.gain.to(rows.dtype).to(rows.device)).squeeze(0)
        return rows

    def packed(self, top: int, bottom: int) -> Tensor:
        """What the first convolution takes, for the same rows: (first_channels, r, w)."""
        return self.ends.packed(self.picture(top, bottom))


@lru_cache(maxsize=1)
def mirrored(width: int, padded: int, device: torch.device) -> Tensor:
    """Columns that padding shows: (padded,) int64, on ``device``, whose strips all ask for it."""
    return reflected(torch.arange(padded), width).to(device)
