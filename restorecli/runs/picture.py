"""One picture in, one result out: what happens to files before and after the network."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace

from numpy.typing import DTypeLike

from restorecli.errors import InputError, OutputError
from restorecli.files.atomic import write_atomically
from restorecli.images import (
    FileOptions,
    Photo,
    check_target,
    decode_photo,
    encode_photo,
    lost_in,
    read_file,
    verify,
)
from restorecli.runs.manifest import Ledger, sha256
from restorecli.runs.selection import Item, Selection, refuse_existing

NEW_FILE_MODE = 0o666


def resumed(selection: Selection, ledger: Ledger) -> Selection:
    """``selection`` with what earlier runs finished marked so, and what is ours to be replaced.

    Raises ``OutputError`` for results that exist and that no manifest knows.
    """
    items = [_resumed(item, ledger) for item in selection.items]
    for root in {item.root for item in items if item.root}:
        ledger.forget(root)  # what a million records take is better left to the run
    refuse_existing([item.target for item in items if isinstance(item.error, ForeignError)])
    return replace(selection, items=items)


class ForeignError(OutputError):
    """Something that we have not written has the name of a result."""


def _resumed(item: Item, ledger: Ledger) -> Item:
    if item.error or item.root is None:
        return item
    in_place = item.source == item.target
    try:
        state = ledger.state(item.source, item.target, item.root)
    except OSError as error:
        problem = InputError(f"Cannot read {item.source}: {error.strerror or error}.")
        return replace(item, error=problem)
    if state == "foreign" and not in_place:
        return replace(item, error=ForeignError(f"{item.target} is not a result of ours."))
    if state == "outdated" and in_place:
        problem = InputError(
            f"{item.source} was restored in place before, with other options or another model, "
            "and its original is gone.",
            hint="Leave out --resume to restore the result once more.",
        )
        return replace(item, error=problem)
    return replace(item, finished=state == "finished", replaces=state != "free")


def finished_meanwhile(item: Item, ledger: Ledger | None) -> bool:
    """Whether another process has written just this result since the run began."""
    if ledger is None or item.root is None or item.replaces or not item.target.exists():
        return False
    try:
        if ledger.state(item.source, item.target, item.root) == "foreign":
            ledger.forget(item.root)
        return ledger.state(item.source, item.target, item.root) == "finished"
    except OSError:
        return False


def read(item: Item, files: FileOptions) -> tuple[bytes, Photo, DTypeLike]:
    """Content of the input, the photograph in it, and the type of the result's values.

    Raises ``InputError``, or ``OutputError`` when the result could not be written anyway.
    """
    data = item.data if item.data is not None else read_file(item.source)
    photo = decode_photo(data, str(item.source), max_pixels=files.max_pixels)
    dtype = files.depth_of(photo)
    check_target(item.target, alpha=photo.alpha is not None, bits=8 * dtype.itemsize)
    return data, photo, dtype


def write(
    item: Item, photo: Photo, files: FileOptions, ledger: Ledger | None, *, source: bytes
) -> tuple[str, ...]:
    """Give the result its name, or write it to stdout; notes on what its format cannot keep.

    ``source`` is the content of the input, whose hash goes into the manifest.
    """
    data = encode_photo(photo, item.target, metadata=files.metadata)
    notes = lost_in(item.target, photo)
    if item.to_stdout:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return notes
    if item.source == item.target:
        verify(data, photo, item.target)
    mode = NEW_FILE_MODE
    with suppress(OSError):  # an input that has vanished meanwhile, or came through a pipe
        mode = item.source.stat().st_mode & NEW_FILE_MODE

    def record() -> None:
        if ledger is not None and item.root is not None:
            hashes = {"input_sha256": sha256(source), "output_sha256": sha256(data)}
            ledger.record(item.target, item.root, **hashes)

    try:
        write_atomically(
            item.target, data, overwrite=item.replaces, mode=mode, before_publishing=record
        )
    except OutputError:
        if not finished_meanwhile(item, ledger):
            raise
    return notes
