"""What Python hands over to be restored, as a photograph, and a photograph given back as that."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restorecli.images import (
    Photo,
    check_target,
    decode_photo,
    encode_photo,
    read_file,
    suffix_for,
    write_photo,
)

MARK = "restored"  # in the name of a result that got none: photo.restored.png
KNOWN = (np.uint8, np.uint16, np.float32)
Given = NDArray[Any] | Image.Image | bytes | str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A photograph, and as what it came."""

    photo: Photo
    source: Given
    target: Path  # whose ending names the format; of files also the place

    def back(self, photo: Photo, *, overwrite: bool) -> Given:
        """``photo`` as the same kind of thing; a file is written first, and its path given."""
        if isinstance(self.source, np.ndarray):
            return photo.pixels
        if isinstance(self.source, Image.Image):
            return _image(photo, self.source)
        if isinstance(self.source, bytes):
            return encode_photo(photo, self.target)
        write_photo(photo, self.target, overwrite=overwrite)
        return self.target


def handed(image: Given, output: str | os.PathLike[str] | None) -> Handed:
    """The photograph in an array, a picture of Pillow, the bytes of a file, or a file.

    Raises ``ValueError`` or ``TypeError`` for what is none, ``InputError`` for unreadable files,
    and ``OutputError`` where the result could not be written.
    """
    if isinstance(image, np.ndarray):
        return Handed(photo=_of_array(image), source=image, target=Path())
    if isinstance(image, Image.Image):
        return Handed(photo=_of_image(image), source=image, target=Path())
    if isinstance(image, bytes):
        photo = decode_photo(image, "the bytes")
        name = suffix_for("", photo.carried.container or None)
        return Handed(photo=photo, source=image, target=Path(f"result{name}"))
    if not isinstance(image, (str, os.PathLike)):
        raise TypeError(
            "image must be an array, a PIL.Image, bytes or a path, got "
            f"{type(image).__module__}.{type(image).__qualname__}"
        )
    path = Path(image)
    photo = decode_photo(read_file(path), str(path))
    suffix = suffix_for(path.suffix, photo.carried.container or None)
    target = Path(output) if output else path.with_name(f"{path.stem}.{MARK}{suffix}")
    bits = photo.carried.bits
    check_target(target, alpha=photo.alpha is not None, bits=photo.bits, stored_bits=bits)
    return Handed(photo=photo, source=image, target=target)


def _of_array(image: NDArray[Any]) -> Photo:
    is_picture = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype not in KNOWN or not is_picture or not image.size:
        raise ValueError(
            "image must be uint8, uint16 or float32 of shape (H, W, 3) or (H, W), "
            f"got {image.dtype} of shape {image.shape}"
        )
    if image.dtype == np.float32 and not (image.min() >= 0 and image.max() <= 1):  # nor NaN
        raise ValueError(
            f"float32 values must be from 0 to 1, got {image.min():g} to {image.max():g}"
        )
    return Photo(pixels=np.require(image, requirements=("W", "C")))


def _of_image(image: Image.Image) -> Photo:
    """Modes that hold gray or RGB, with or without transparency."""
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode == "1":
        image = image.convert("L")
    planes = np.array(image)  # a copy of its own
    if image.mode in {"RGBA", "LA"}:
        gray = image.mode == "LA"
        return Photo(
            pixels=np.ascontiguousarray(planes[..., 0] if gray else planes[..., :3]),
            alpha=np.ascontiguousarray(planes[..., -1]),
        )
    if image.mode.startswith("I;16"):
        return Photo(pixels=planes.astype(np.uint16))
    if image.mode not in {"L", "RGB"}:
        raise ValueError(
            f"a PIL.Image of mode {image.mode} is not restored; convert it to RGB, L, RGBA or LA"
        )
    return Photo(pixels=planes)


def _image(photo: Photo, source: Image.Image) -> Image.Image:
    planes = photo.pixels if photo.alpha is None else np.dstack([photo.pixels, photo.alpha])
    image = Image.fromarray(planes)
    image.info = {name: value for name, value in source.info.items() if name != "transparency"}
    return image
