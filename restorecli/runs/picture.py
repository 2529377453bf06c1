"""One picture in, one result out: what happens to files before and after the network."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from restorecli.errors import DeviceError, OutputError, RestoreError
from restorecli.files.atomic import write_atomically
from restorecli.images import (
    FileOptions,
    Photo,
    check_target,
    decode_photo,
    encode_photo,
    lost_in,
    other_than_named,
    read_file,
    verify,
)
from restorecli.images.formats import TooManyPixelsError, too_large
from restorecli.images.needs import decoding_bytes
from restorecli.images.photo import WHITE
from restorecli.machine import streams
from restorecli.report import Row
from restorecli.runs.items import Item
from restorecli.runs.manifest import Ledger, sha256
from restorecli.runs.resuming import finished_meanwhile
from restorecli.scoring.score import InPass

NEW_FILE_MODE = 0o666
HARDLY = 0.2  # of 255, on average
ALWAYS_DECODED = 1_000_000  # pixels: of smaller pictures the plan says what they need


def read(
    item: Item, files: FileOptions, *, room_bytes: float = math.inf
) -> tuple[bytes, Photo, DTypeLike]:
    """Content of the input, the photograph in it, and the type of the result's values.

    Raises ``InputError``, ``DeviceError`` before decoding what does not fit into ``room_bytes``,
    or ``OutputError`` when the result could not be written anyway.
    """
    data = item.data if item.data is not None else read_file(item.source)
    photo = _decoded(data, item, files.max_pixels, room_bytes)
    dtype = files.depth_of(photo)
    check_target(
        item.target,
        alpha=photo.alpha is not None,
        bits=8 * dtype.itemsize,
        stored_bits=photo.carried.bits,
    )
    if photo.lost_pictures and item.source == item.target:
        raise OutputError(
            f"Cannot restore {item.source} in place: {photo.lost_pictures} further picture(s) "
            "in it would be lost.",
            hint="Choose a new name with -o.",
        )
    if note := other_than_named(item.source, photo):
        photo = replace(photo, notes=(note, *photo.notes))
    return data, photo, dtype


def _decoded(data: bytes, item: Item, max_pixels: int, room_bytes: float) -> Photo:
    pixel_bytes = decoding_bytes(data)
    fitting = int(min(max_pixels, max(room_bytes // pixel_bytes, ALWAYS_DECODED)))
    try:
        return decode_photo(data, str(item.source), max_pixels=fitting)
    except TooManyPixelsError as error:
        pixels = error.width * error.height
        if pixels > max_pixels:
            raise too_large(str(item.source), error.width, error.height, max_pixels) from error
        raise DeviceError(
            f"Cannot read {item.source}: decoding its {error.width}×{error.height} pixels takes "
            f"about {pixels * pixel_bytes / 1e6:.0f} MB, and {room_bytes / 1e6:.0f} MB are left.",
            hint="Give it more memory (--max-memory, or the limit of the container).",
        ) from error


def hardly_changed(before: Photo, after: Photo) -> tuple[str, ...]:
    """A note if the pixels are nearly those of the input: there was nothing to do, or no effect."""
    import cv2

    known = np.ascontiguousarray(before.in_depth(after.pixels.dtype).pixels)
    total = cv2.norm(known, np.ascontiguousarray(after.pixels), cv2.NORM_L1)
    change = 255 * total / after.pixels.size / WHITE[after.pixels.dtype]
    if change >= HARDLY:
        return ()
    return (f"hardly changed: by {change:.2f} of 255 on average",)


def write(
    item: Item, photo: Photo, files: FileOptions, ledger: Ledger, *, source: bytes
) -> tuple[str, ...]:
    """Give the result its name, or write it to stdout; notes on what its format cannot keep.

    ``source`` is the content of the input, whose hash goes into the manifest.
    """
    data = encode_photo(
        photo, item.target, metadata=files.metadata, jpeg_quality=files.jpeg_quality
    )
    notes = lost_in(item.target, photo, metadata=files.metadata)
    if item.to_stdout:
        streams.write_output(data)
        return notes
    if item.in_place:
        verify(data, photo, item.target)
    mode = NEW_FILE_MODE
    with suppress(OSError):  # an input that has vanished meanwhile, or came through a pipe
        mode = item.source.stat().st_mode & NEW_FILE_MODE

    def record() -> None:
        if item.root is not None:
            hashes = {"input_sha256": sha256(source), "output_sha256": sha256(data)}
            ledger.record(item.target, item.root, **hashes)

    try:
        notes += write_atomically(
            item.target, data, overwrite=item.replaces, mode=mode, before_publishing=record
        )
    except OutputError:
        if not finished_meanwhile(item, ledger):
            raise
    return notes


def scored(row: Row, item: Item, scoring: InPass) -> Row:
    """``row`` with its scores; a picture that cannot be scored stays restored, with a note."""
    reference = scoring.references.get(item.source)
    if reference is None:
        return row
    try:
        return replace(
            row,
            reference=str(reference),
            scores_before=scoring.scores(item.source, item.source),
            scores_after=scoring.scores(item.source, item.target),
        )
    except RestoreError as error:
        return replace(row, notes=(*row.notes, f"not scored: {error}"))
