"""A photograph in memory: upright pixels, and what its file carried beside them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

Pixels = NDArray[Any]  # uint8, uint16 or float32
WHITE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65_535, np.dtype(np.float32): 1}


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a container that is not pixels, as its bytes stand in the file."""

    name: str  # ``APP4``, ``tEXt``, ``EXIF``, ``uri ``
    data: bytes
    behind: bool = False  # it stood behind the pixels


class Colours(NamedTuple):
    """Code points of ISO/IEC 23091-2 (CICP, ``nclx``): how numbers are meant as light."""

    primaries: int
    transfer: int
    matrix: int = 0
    full_range: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a file holds beside pixels, as bytes.

    ``parts`` are what only a file of the same ``container`` can hold; everything else has its
    place in several containers and stands in a field of its own.
    """

    container: str = ""  # as in `formats.WRITABLE`, or HEIF
    exif: bytes | None = None  # a TIFF block without ``Exif\0\0``; orientation reset to 1
    exif_gap: tuple[int, int] = (0, 0)  # (start, end) of bytes in ``exif`` that nothing uses
    xmp: bytes | None = None  # likewise upright
    icc_profile: bytes | None = None
    icc_name: bytes = b"ICC Profile"  # which only PNG writes down
    colours: Colours | None = None
    dpi: tuple[float, float] | None = None
    iptc: bytes | None = None  # its records (IIM)
    photoshop: bytes | None = None  # image resources, with IPTC where it stood among them
    comment: bytes | None = None
    parts: tuple[Part, ...] = ()
    trailer: bytes = b""  # a clip behind a JPEG
    jpeg_tables: tuple[tuple[int, ...], ...] = ()  # quantisation of each component
    jpeg_sampling: tuple[tuple[int, int], ...] = ()  # of each component, across and down
    avif_subsampling: str = "444"
    bits: int = 0  # of one channel in the file, if known: 10 and 12 are held in 16
    lossless: bool = False  # how a WebP, AVIF or JPEG XL was coded
    was_turned: bool = False  # the pixels were turned to be upright


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """Upright pixels and the rest.

    ``pixels`` are uint8 (0…255), uint16 (0…65535) or float32 (0…1): RGB (H, W, 3) or gray (H, W).
    ``alpha`` has the same type, (H, W), or is ``None``; colours are not multiplied by it.
    ``notes`` tell what could not be kept, ``lost_pictures`` how many whole pictures are among it.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    carried: Carried = field(default_factory=Carried)
    notes: tuple[str, ...] = ()
    lost_pictures: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def is_gray(self) -> bool:
        """One channel of light, whatever the alpha."""
        return self.pixels.ndim == 2

    @property
    def bits(self) -> int:
        """Of one channel: 8, 16, or 32 for float32."""
        return 8 * self.pixels.dtype.itemsize

    def in_depth(self, dtype: DTypeLike) -> Photo:
        """The same photograph with values of another type; 0 and white stay 0 and white."""
        alpha = None if self.alpha is None else _in_depth(self.alpha, np.dtype(dtype))
        return replace(self, pixels=_in_depth(self.pixels, np.dtype(dtype)), alpha=alpha)

    @property
    def looks_gray(self) -> bool:
        """Whether an RGB picture has no colour anywhere: R = G = B."""
        if self.is_gray:
            return False
        few = self.pixels[:: max(1, self.size[0] // 16)]
        return _is_gray(few) and _is_gray(self.pixels)

    def filled(self) -> Pixels:
        """The pixels for a network: (H, W, 3), or (H, W) where there is no colour.

        A gray picture that is stored as RGB is restored as the gray that it is, so that no tint
        comes into it. Wherever the picture is wholly transparent it has the nearest visible colour:
        what is hidden there (often black, often the picture's own background) would otherwise be
        mixed into the visible edge by a network that looks at neighbours.
        """
        pixels = self.pixels[..., 0] if self.looks_gray else self.pixels
        hidden = self.hidden
        if hidden is None or hidden.all():
            return pixels
        from scipy import ndimage

        nearest = ndimage.distance_transform_edt(
            hidden, return_distances=False, return_indices=True
        )  # (2, H, W)
        return pixels[tuple(nearest)]

    def with_pixels(self, pixels: Pixels) -> Photo:
        """The same photograph with other pixels of the shape of `filled`; all else is carried.

        Where it is wholly transparent, the colour stays what it was.
        """
        if pixels.ndim == 2 and self.pixels.ndim == 3:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        if pixels.shape != self.pixels.shape:
            raise ValueError(f"expected pixels of shape {self.pixels.shape}, got {pixels.shape}")
        photo = self.in_depth(pixels.dtype)
        if (hidden := self.hidden) is not None:
            pixels = pixels.copy()
            pixels[hidden] = photo.pixels[hidden]
        return replace(photo, pixels=pixels)

    @property
    def hidden(self) -> NDArray[np.bool_] | None:
        """Where nothing is seen, (H, W); ``None`` if that is nowhere."""
        if self.alpha is None:
            return None
        hidden = self.alpha == 0
        return hidden if hidden.any() else None


def _is_gray(pixels: Pixels) -> bool:
    red, green, blue = (pixels[..., i] for i in range(3))
    return bool(np.array_equal(red, green) and np.array_equal(red, blue))


def _in_depth(values: Pixels, dtype: np.dtype[Any]) -> Pixels:
    if values.dtype == dtype:
        return values
    scaled = values.astype(np.float64) * (WHITE[dtype] / WHITE[values.dtype])
    return (scaled if dtype.kind == "f" else np.rint(scaled)).astype(dtype)
