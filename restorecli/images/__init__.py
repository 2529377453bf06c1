"""Files to arrays and back, with everything else a photograph carries. Nobody else converts."""

from __future__ import annotations

from restorecli.images.formats import FORMAT_OF_SUFFIX, HEIC_SUFFIXES, READ_SUFFIXES, suffix_for
from restorecli.images.metadata import Keep
from restorecli.images.photo import Carried, Photo
from restorecli.images.reading import MAX_PIXELS, decode_photo, identify, read_file, read_photo
from restorecli.images.writing import (
    Bits,
    FileOptions,
    check_target,
    encode_photo,
    lost_in,
    other_than_named,
    verify,
    write_photo,
)

__all__ = [
    "FORMAT_OF_SUFFIX",
    "HEIC_SUFFIXES",
    "MAX_PIXELS",
    "READ_SUFFIXES",
    "Bits",
    "Carried",
    "FileOptions",
    "Keep",
    "Photo",
    "check_target",
    "decode_photo",
    "encode_photo",
    "identify",
    "lost_in",
    "other_than_named",
    "read_file",
    "read_photo",
    "suffix_for",
    "verify",
    "write_photo",
]
