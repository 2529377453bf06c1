"""Pictures spoiled on request, and the clean ones beside them: pairs to measure with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from restorecli.degradations.kinds import degraded
from restorecli.errors import RestoreError, UsageError
from restorecli.files.atomic import write_atomically
from restorecli.images import FORMAT_OF_SUFFIX, encode_photo, read_photo
from restorecli.images.photo import WHITE, Pixels
from restorecli.limits import STREAM
from restorecli.runs.items import STDIN
from restorecli.runs.naming import Naming
from restorecli.runs.selection import WhatExists, expand, select

LOSSLESS = "{stem}.png"  # another loss would be measured together with the one that was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be made of every picture."""

    kind: str  # of `restorecli.degradations.kinds.KINDS`
    seed: int = 0
    severity: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One picture: where it lies, and where the spoiled and perhaps the clean one go."""

    source: Path
    degraded: Path
    clean: Path | None = None
    overwrite: bool = False
    error: RestoreError | None = None  # why it is known already to be unusable


def plan(
    inputs: Sequence[str],
    output: str,
    kind: str,
    *,
    pairs: bool = False,
    recursive: bool = False,
    overwrite: bool = False,
) -> list[Work]:
    """What will be read and written; nothing is, yet.

    Args:
        inputs: Pictures, folders, patterns, or ``@list`` of names.
        output: A folder, or for one picture and no ``pairs`` a file.
        kind: Of `restorecli.degradations.kinds.KINDS`.
        pairs: Spoiled pictures go into ``input/``, clean ones into ``target/`` of ``output``.
        recursive: Look in folders of folders, too.
        overwrite: Replace what is there.

    Raises ``OutputError`` when results exist, collide or would replace an input, ``UsageError``
    for standard input or output.
    """
    paths = expand(inputs)
    if output == STREAM or STDIN in paths:
        raise UsageError(
            "restore degrade reads and writes files: - is neither.", hint="Give -o FOLDER."
        )

    if pairs and Path(output).suffix.lower() in FORMAT_OF_SUFFIX and not Path(output).is_dir():
        raise UsageError(
            f"--pairs makes two folders, and -o {output} names a file.", hint="Name a folder."
        )

    existing: WhatExists = "replace" if overwrite else "refuse"

    def chosen(place: str) -> list[Work]:
        naming = Naming(task=kind, output=place, template=LOSSLESS)
        found = select(paths, naming, recursive=recursive, existing=existing)
        return [
            Work(source=i.source, degraded=i.target, overwrite=i.replaces, error=i.error)
            for i in found.items
        ]

    if not pairs:
        return chosen(output)
    return [
        Work(
            source=spoiled.source,
            degraded=spoiled.degraded,
            clean=clean.degraded,
            overwrite=overwrite,
            error=spoiled.error,
        )
        for spoiled, clean in zip(
            chosen(f"{output}/input"), chosen(f"{output}/target"), strict=True
        )
    ]


def carry_out(
    work: Sequence[Work], order: Order, *, max_pixels: int
) -> Iterator[tuple[Work, RestoreError | None]]:
    """Spoil one picture after the other; what failed comes with its error, and the rest go on."""
    for one in work:
        error = one.error
        if error is None:
            try:
                spoil_file(one, order, max_pixels=max_pixels)
            except RestoreError as problem:
                error = problem
        yield one, error


def spoil_file(work: Work, order: Order, *, max_pixels: int) -> None:
    """Read, spoil and write one picture; the clean one first, so that no input lacks its target.

    Raises ``InputError`` or ``OutputError``.
    """
    photo = read_photo(work.source, max_pixels=max_pixels)
    if photo.bits == 32:
        photo = photo.in_depth(np.uint16)
    spoiled = photo.with_pixels(spoil(photo.pixels, order))
    for path, picture in ((work.clean, photo), (work.degraded, spoiled)):
        if path is not None:
            write_atomically(path, encode_photo(picture, path), overwrite=work.overwrite)


def spoil(pixels: Pixels, order: Order) -> Pixels:
    """Spoiled uint8 or uint16 pixels, RGB (H, W, 3) or gray (H, W): the same shape and type.

    What is drawn depends on the seed and the pixels, not on names or on other pictures of the run.
    """
    white = WHITE[pixels.dtype]
    gray = pixels.ndim == 2
    colour = pixels[..., None].repeat(3, axis=2) if gray else pixels
    clean = colour.astype(np.float32) / np.float32(white)
    contents = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).digest()
    own_seed = (order.seed << 64) + int.from_bytes(contents[:8], "big")
    made = degraded(order.kind, clean, own_seed, order.severity)
    made = made.mean(axis=2) if gray else made
    return np.rint(made * white).astype(pixels.dtype)


def exit_code(errors: Sequence[RestoreError | None]) -> int:
    """0 if all went well, 1 if some did, else the code of the first failure."""
    failures = [error for error in errors if error]
    if not failures:
        return 0
    return RestoreError.exit_code if len(failures) < len(errors) else failures[0].exit_code
