"""Raw files of cameras, developed by LibRaw where ``restorecli[raw]`` is installed."""

from __future__ import annotations

import importlib.util
import io

from restorecli.images import ifd
from restorecli.images.formats import too_large
from restorecli.images.photo import Carried, Photo

SRGB_GAMMA = (2.4, 12.92)
# What describes the sensor's values, of which nothing is left in the picture.
OF_THE_SENSOR = {*range(33_421, 33_423), *range(50_706, 51_200), 0x828D, 0x828E, 0x9216}


def can_develop() -> bool:
    """Whether the reader is installed."""
    return importlib.util.find_spec("rawpy") is not None


def read_raw(name: str, data: bytes, *, max_pixels: int) -> Photo:
    """Develop ``data`` to sRGB of 16 bits, upright, with the camera's white balance.

    Raises ``InputError`` for more than ``max_pixels``; what LibRaw raises is left to the caller.
    """
    import rawpy

    from restorecli.images.tiff import STRUCTURE

    with rawpy.imread(io.BytesIO(data)) as file:
        sizes = file.sizes
        if sizes.iwidth * sizes.iheight > max_pixels:
            raise too_large(name, sizes.iwidth, sizes.iheight, max_pixels)
        pixels = file.postprocess(
            output_bps=16, use_camera_wb=True, no_auto_bright=True, gamma=SRGB_GAMMA
        )
    notes = ["developed from a camera's raw file by LibRaw, with the camera's white balance"]
    exif, _ = ifd.copied(data, STRUCTURE | OF_THE_SENSOR, holds_note=False)
    if not exif:
        notes.append("EXIF: not kept, as it cannot be taken out of this kind of raw file")
    return Photo(
        pixels=pixels, carried=Carried(container="RAW", exif=exif or None), notes=tuple(notes)
    )
