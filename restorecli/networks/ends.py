"""How a picture enters a network, and how the result leaves it.

Between these ends a network sees features only. What the ends do is said by options of the
constructor, and so by the registry's entry of a checkpoint: how many pixels make one position of
the features (``packing``), what the last convolution means (``head``), and what is done to the
picture before (``front``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restorecli.networks.blocks import MULTIPLE_PX, pad_to_multiple, statistics_dtype
from restorecli.networks.exposure import curved, gain_from, histograms
from restorecli.networks.guided import guided_filter

PACKINGS = (1, 2, 4)
HEADS = ("residual", "affine")
FRONTS = ("none", "exposure")
CHANNELS_WITH_LUMA = (1, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Both ends of a network.

    Args:
        inp_channels: Of the picture.
        out_channels: Of the result.
        packing: Side of the squares of pixels that make one position of the features: 1, 2 or 4.
        head: ``residual``: the last convolution gives what is added to the picture. ``affine``: it
            gives smooth maps a and b, one value for each square, enlarged bilinearly; the result
            is exp(a)·picture + b, which cannot have texture that the picture has not.
        guided_radius: Of the guided filter that smooths a and b along the picture's edges, in
            squares; 0: none.
        front: ``none``, or ``exposure``: the tone curve of `exposure` before everything else.
        front_mean: Mean luma that the curve aims at, for scenes without highlights.
        front_mean_lit: The same for scenes with lamps.
        adds_picture: Whether the residual head adds the picture; not for dual-pixel images.

    Raises:
        ValueError: A value that is none of these, or two that do not go together.
    """

    inp_channels: int = 3
    out_channels: int = 3
    packing: int = 1
    head: str = "residual"
    guided_radius: int = 0
    front: str = "none"
    front_mean: float = 0.45
    front_mean_lit: float = 0.28
    adds_picture: bool = True

    def __post_init__(self) -> None:
        for name, value, known in (
            ("packing", self.packing, PACKINGS),
            ("head", self.head, HEADS),
            ("front", self.front, FRONTS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, got {value!r}")
        if self.adds_picture and self.inp_channels != self.out_channels:
            raise ValueError(
                "the output is added to the input, so inp_channels must equal out_channels, "
                f"got {self.inp_channels} and {self.out_channels}"
            )
        if self.guided_radius < 0 or (self.guided_radius and not self.affine):
            raise ValueError(
                "guided_radius must be 0, or positive with head 'affine', "
                f"got {self.guided_radius} with head {self.head!r}"
            )
        if self.affine and not self.adds_picture:
            raise ValueError("head 'affine' is not for dual-pixel images")
        if self.exposes and self.inp_channels not in CHANNELS_WITH_LUMA:
            raise ValueError(
                f"front 'exposure' is for pictures of 1 or 3 channels, got {self.inp_channels}"
            )
        for name, mean in (
            ("front_mean", self.front_mean),
            ("front_mean_lit", self.front_mean_lit),
        ):
            if not 0 < mean < 1:
                raise ValueError(f"{name} must be between 0 and 1, got {mean}")

    @property
    def affine(self) -> bool:
        """Whether the result is exp(a)·picture + b."""
        return self.head == "affine"

    @property
    def exposes(self) -> bool:
        """Whether the tone curve comes first."""
        return self.front == "exposure"

    @property
    def multiple_px(self) -> int:
        """Height and width of a padded picture divide by this."""
        return MULTIPLE_PX * self.packing

    @property
    def first_channels(self) -> int:
        """Channels that the first convolution takes."""
        return self.inp_channels * self.packing**2

    @property
    def last_channels(self) -> int:
        """Channels that the last convolution gives."""
        return self.out_channels * (2 if self.affine else self.packing**2)

    def gain(self, x: Tensor) -> Tensor:
        """Gain of the tone curve for each picture: (B, inp_channels, H, W) → (B,), at least 1."""
        return gain_from(histograms(x), self.front_mean, self.front_mean_lit)

    def picture(self, x: Tensor, gain: Tensor | None) -> Tensor:
        """The padded picture that the head starts from.

        Shape:
            x: (B, inp_channels, H, W); gain: (B,), that of ``x`` when ``None``
            → (B, inp_channels, H', W').
        """
        if self.exposes:
            x = curved(x, self.gain(x) if gain is None else gain)
        return pad_to_multiple(x, self.multiple_px)

    def packed(self, picture: Tensor) -> Tensor:
        """What the first convolution takes.

        Shape:
            picture: (B, inp_channels, H', W') → (B, first_channels, H'/packing, W'/packing).
        """
        return F.pixel_unshuffle(picture, self.packing) if self.packing > 1 else picture

    def maps(self, values: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """The affine head's a and b from what the last convolution gives, at least float32.

        Shape:
            values: (B, last_channels, h, w), of whole pictures; guide: theirs,
            (B, inp_channels, h, w) → two of (B, out_channels, h, w).
        """
        maps = values.to(statistics_dtype(values))
        if self.guided_radius:
            maps = guided_filter(maps, guide, self.guided_radius)
        a, b = maps.chunk(2, dim=1)
        return a, b

    def guide(self, packed: Tensor) -> Tensor:
        """What leads the guided filter: the mean colour of each square.

        Shape:
            packed: (B, first_channels, h, w) → (B, inp_channels, h, w).
        """
        return packed.unflatten(1, (self.inp_channels, -1)).mean(2)

    def enlarged(self, maps: Tensor) -> Tensor:
        """Maps at the resolution of the picture, bilinearly between the centres of the squares.

        Shape:
            maps: (B, C, h, w) → (B, C, h·packing, w·packing).
        """
        if self.packing == 1:
            return maps
        return F.interpolate(maps, scale_factor=self.packing, mode="bilinear", align_corners=False)

    def result(self, values: Tensor, picture: Tensor) -> Tensor:
        """The restored picture, padded, from what the last convolution gives.

        Shape:
            values: (B, last_channels, h, w); picture: (B, inp_channels, H', W')
            → (B, out_channels, H', W').
        """
        if self.affine:
            guide = self.guide(self.packed(picture))
            return self.corrected(picture, *self.maps(values, guide))
        y = F.pixel_shuffle(values, self.packing) if self.packing > 1 else values
        return y + picture if self.adds_picture else y

    def corrected(self, picture: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """``exp(a)·picture + b``, in the dtype of ``picture``.

        Shape:
            picture: (B, C, H', W'); a, b: (B, C, h, w) → (B, C, H', W').
        """
        with torch.autocast(picture.device.type, enabled=False):
            wide = picture.to(a.dtype)
            return (self.enlarged(a).exp() * wide + self.enlarged(b)).to(picture.dtype)


class PictureNetwork(nn.Module):
    """A network between the two ends; a class of its own says what ``head_values`` are.

    Shape:
        x: (B, inp_channels, H, W) → (B, out_channels, H, W), same dtype.
    """

    def __init__(self, ends: Ends) -> None:
        super().__init__()
        self.ends = ends

    def head_values(self, packed: Tensor) -> Tensor:
        """What the last convolution gives for what the first takes.

        Shape:
            packed: (B, first_channels, h, w), h and w multiples of 8 → (B, last_channels, h, w).
        """
        raise NotImplementedError

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        """Restore ``x``.

        Args:
            x: (B, inp_channels, H, W), nominally [0, 1], any H and W from 1.
            gain: (B,), of the tone curve in front, where there is one: for crops, that of their
                whole picture. That of ``x`` when ``None``.

        Shape:
            → (B, out_channels, H, W), same dtype, not clamped.
        """
        picture = self.ends.picture(x, gain)
        values = self.head_values(self.ends.packed(picture))
        return self.ends.result(values, picture)[..., : x.shape[-2], : x.shape[-1]]

    def exposure_gain(self, x: Tensor) -> Tensor:
        """Gain of the tone curve in front for each picture: (B, inp_channels, H, W) → (B,)."""
        return self.ends.gain(x)

    def maps(self, x: Tensor, gain: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The affine head's a and b for ``x``, one value for each square of the padded picture.

        Shape:
            x, gain: as for ``forward`` → two of (B, out_channels, H'/packing, W'/packing).
        """
        return self.forward_with_maps(x, gain)[1:]

    def forward_with_maps(
        self, x: Tensor, gain: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What ``forward`` and ``maps`` give, by one pass through the network.

        Shape:
            x, gain: as for ``forward`` → (B, out_channels, H, W), and the two maps.

        Raises:
            ValueError: The head is not affine.
        """
        if not self.ends.affine:
            raise ValueError(f"head {self.ends.head!r} has no maps")
        picture = self.ends.picture(x, gain)
        packed = self.ends.packed(picture)
        a, b = self.ends.maps(self.head_values(packed), self.ends.guide(packed))
        restored = self.ends.corrected(picture, a, b)
        return restored[..., : x.shape[-2], : x.shape[-1]], a, b
