"""Which pictures a run is about, and what will be done with each. Nothing is written here."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import Literal

from natsort import os_sorted

from restorecli.errors import InputError, RestoreError, UsageError
from restorecli.files.addresses import Existing, is_remote, matching, path_of
from restorecli.images import FORMAT_OF_SUFFIX, HEIC_SUFFIXES, identify
from restorecli.images.finding import PICTURE_SUFFIXES, Candidate, candidates, is_folder
from restorecli.images.formats import HEAD_BYTES, foreign, refused_name
from restorecli.images.reading import identify_data
from restorecli.limits import STREAM
from restorecli.runs.items import STDIN, Item, Selection
from restorecli.runs.manifest import recorded_outputs
from restorecli.runs.naming import (
    IN_FOLDER,
    Naming,
    in_place_error,
    refuse_collisions,
    refuse_existing,
    too_long,
)

# What happens to results that exist: nothing is done at all; they are replaced; they are kept;
# those that the manifest calls finished are kept and those of ours replaced.
WhatExists = Literal["refuse", "replace", "keep", "resume"]


def expand(arguments: Sequence[str]) -> list[Path]:
    """Patterns, ``@list`` and ``-`` → paths, in the order given.

    A list has one path in each line, relative to the current folder; a list with NUL bytes is
    divided there instead, so that names may have line breaks (``find -print0``). ``@-`` is a list
    from standard input. Names in lists are taken as they are.
    """
    paths: list[Path] = []
    for argument in arguments:
        if argument == STREAM:
            paths.append(STDIN)
        elif argument.startswith("@") and not os.path.lexists(argument):
            paths += _listed(argument[1:])
        elif has_magic(argument) and not os.path.lexists(argument):
            found = os_sorted(matching(argument))
            paths += [path_of(name) for name in found] or [path_of(argument)]
        else:
            paths.append(path_of(argument))
    return paths


def _listed(name: str) -> list[Path]:
    try:
        data = sys.stdin.buffer.read() if name == STREAM else path_of(name).read_bytes()
    except OSError as error:
        raise InputError(
            f"Cannot read the list {name}: {error.strerror or error}.",
            hint=f"For a file that is called @{name} give ./@{name}.",
        ) from error
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [path_of(os.fsdecode(line)) for line in lines if line.strip()]


def select(
    inputs: Sequence[Path],
    naming: Naming,
    *,
    recursive: bool = False,
    existing: WhatExists = "refuse",
) -> Selection:
    """Pair every input with its target and refuse what would lose something.

    One file goes beside itself as ``photo.<task>.png``, a folder beside itself as
    ``photos.<task>/`` with its tree and names; ``-o`` names a file (for one input file) or a
    folder instead. Raises ``OutputError`` for two inputs with one target, for targets that exist
    (if ``existing`` says ``refuse``) and for targets that are inputs.
    """
    if (naming.to_stdout or naming.names_a_file) and (len(inputs) != 1 or inputs[0].is_dir()):
        raise UsageError(
            f"-o {naming.output} names one file, but there may be several results.",
            hint="Name a folder.",
        )
    items: list[Item] = []
    ignored = 0
    resume = existing == "resume"
    keeps_manifest = len(inputs) > 1 or resume or naming.in_place or naming.folder is not None
    looks_back = resume and not naming.in_place
    for path in inputs:
        if path is STDIN:
            items.append(_stream(naming))
        elif is_folder(path):
            found, others = _in_folder(path, naming, recursive=recursive, resume=looks_back)
            items += found
            ignored += others
        else:
            item = _single(path, naming, resume=looks_back)
            if keeps_manifest and not item.to_stdout:
                item = replace(item, root=naming.folder or item.target.parent)
            items.append(item)
    items = [replace(item, fate=item.error or too_long(item.target) or "new") for item in items]
    refuse_collisions(items, in_place=naming.in_place)
    return Selection(
        items=_with_fates(items, "replace" if naming.in_place else existing), ignored=ignored
    )


def _with_fates(items: Sequence[Item], existing: WhatExists) -> list[Item]:
    """``items`` with what is done where a target exists; ``resumed`` decides for ``resume``."""
    taken = Existing()

    def is_there(item: Item) -> bool:
        return item.error is None and not item.to_stdout and (item.in_place or taken(item.target))

    if existing == "resume":
        return list(items)
    if existing == "refuse":
        refuse_existing([item.target for item in items if is_there(item)])
        return list(items)
    return [replace(item, fate=existing) if is_there(item) else item for item in items]


def _kind(path: Path, *, result: Path | None = None) -> str | None:
    """`identify`, or the format that the name tells, where looking inside is left to reading.

    A look into each of a million files takes minutes, at addresses hours: it is spared there, and
    where a run goes on and the ``result`` is there already.
    """
    kind = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if kind and (is_remote(path) or (result is not None and os.path.lexists(result))):
        return kind
    return identify(path)


def _stream(naming: Naming) -> Item:
    """The picture on standard input, which goes to ``-o`` or to standard output."""
    data = sys.stdin.buffer.read()
    target = naming.of_stream(identify_data(io.BytesIO(data)))
    return Item(source=STDIN, target=target, data=data, to_stdout=naming.place is None)


def _single(path: Path, naming: Naming, *, resume: bool) -> Item:
    """A file that was named: whatever is wrong with it is an error."""
    error: RestoreError | None = None
    kind = None
    try:
        kind = _kind(path, result=naming.of_file(path, None) if resume else None)
        if kind is None:
            error = _not_an_image(path)
    except RestoreError as problem:
        error = problem
    if naming.to_stdout:
        target = Path(f"<stdout>{naming.suffix(path, kind)}")
        return Item(source=path, target=target, to_stdout=True, fate=error or "new")
    if naming.in_place:
        return Item(source=path, target=path, fate=error or in_place_error(path, kind) or "new")
    return Item(source=path, target=naming.of_file(path, kind), fate=error or "new")


def _not_an_image(path: Path) -> InputError:
    if not path.stat().st_size:
        return InputError(f"Cannot read {path}: the file is empty (0 bytes).")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if kind := foreign(head) or refused_name(head):
        return InputError(f"Cannot restore {path}: it is {kind}, not a picture.")
    start = head[:12].decode("latin-1")
    return InputError(f"Cannot read {path}: not an image (starts with {start!r}).")


def _in_folder(
    folder: Path, naming: Naming, *, recursive: bool, resume: bool
) -> tuple[list[Item], int]:
    """Pictures in ``folder`` by content; other files are counted, broken pictures are items."""
    root = naming.of_folder(folder)
    own = set() if naming.in_place else recorded_outputs(folder)

    def target_of(path: Path, kind: str | None) -> Path:
        if naming.in_place:
            return path
        name = naming.name(path, kind, IN_FOLDER)
        return (root / path.relative_to(folder)).with_name(name)

    def kind_of(path: Path) -> str | None:
        return _kind(path, result=target_of(path, None) if resume else None)

    def is_result(path: Path) -> bool:
        return path in own or (not naming.in_place and _is_result(path, naming.task))

    look = partial(candidates, recursive=recursive, is_result=is_result, kind_of=kind_of)
    items = []
    ignored = 0
    for found in look(folder, results=root):
        if _is_ignored(found):
            ignored += 1
            continue
        error = found.error or _problem(found, naming)
        target = target_of(found.path, found.kind)
        items.append(
            Item(source=found.path, target=target, folder=folder, root=root, fate=error or "new")
        )
    return items, ignored


def _is_ignored(found: Candidate) -> bool:
    """No picture, and its name does not promise one either."""
    promises = found.path.suffix.lower() in PICTURE_SUFFIXES
    return found.kind is None and found.error is None and not promises


def _problem(found: Candidate, naming: Naming) -> RestoreError | None:
    if found.kind is None:
        return InputError(f"Cannot read {found.path}: not an image, or damaged at its beginning.")
    return in_place_error(found.path, found.kind) if naming.in_place else None


def _is_result(path: Path, task: str) -> bool:
    """Whether ``path`` is what an earlier run made of a picture beside it."""
    stem, dot, made_by = path.stem.rpartition(".")
    if not dot or made_by != task:
        return False
    return any(path.with_name(stem + s).exists() for s in (path.suffix, *HEIC_SUFFIXES))
