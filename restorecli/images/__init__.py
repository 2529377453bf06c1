"""Files to arrays and back, with everything else a photograph carries. Nobody else converts."""

from __future__ import annotations

from restorecli.images.files import (
    FORMAT_OF_SUFFIX,
    check_target,
    identify,
    read_photo,
    write_photo,
)
from restorecli.images.photo import Carried, Photo

__all__ = [
    "FORMAT_OF_SUFFIX",
    "Carried",
    "Photo",
    "check_target",
    "identify",
    "read_photo",
    "write_photo",
]
