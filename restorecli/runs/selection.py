"""Which pictures a run is about, and what will be done with each. Nothing is written here."""

from __future__ import annotations

import codecs
import io
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import Literal

from natsort import os_sorted

from restorecli.errors import InputError, OutputError, RestoreError, UsageError
from restorecli.files.addresses import Existing, is_remote, matching, path_of
from restorecli.files.regular import IrregularError, open_regular, read_regular
from restorecli.images import FORMAT_OF_SUFFIX, HEIC_SUFFIXES, identify
from restorecli.images.finding import (
    PICTURE_SUFFIXES,
    Candidate,
    candidates,
    folders_below,
    is_folder,
)
from restorecli.images.formats import HEAD_BYTES, foreign
from restorecli.images.reading import identify_data, not_an_image
from restorecli.limits import STREAM
from restorecli.machine import streams
from restorecli.runs.items import STDIN, Item, Selection
from restorecli.runs.manifest import OwnResults
from restorecli.runs.naming import (
    IN_FOLDER,
    Naming,
    in_place_error,
    refuse_collisions,
    refuse_existing,
    told_apart,
    too_long,
)
from restorecli.runs.preview import MARK

STREAM_FILES = {"/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}
LARGEST_LIST = 2**30  # bytes: ten million names
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
        if argument == STREAM or argument in STREAM_FILES:
            if STDIN in paths:
                raise UsageError("Standard input can be given once only.")
            paths.append(STDIN)
        elif argument.startswith("@") and not os.path.lexists(argument):
            paths += _listed(argument[1:])
        elif has_magic(argument) and not os.path.lexists(argument):
            found = os_sorted(matching(argument))
            paths += [path_of(name) for name in found] or [path_of(argument)]
        else:
            paths.append(_named(argument))
    return paths


def _named(argument: str) -> Path:
    """The path that ``argument`` names; ``~`` is the home, where the shell has left it."""
    if argument.startswith("~") and not os.path.lexists(argument):
        argument = os.path.expanduser(argument)  # noqa: PTH111 (which fails without a home)
    return path_of(argument)


def _listed(name: str) -> list[Path]:
    try:
        data = streams.read_input() if name == STREAM else _read_list(path_of(name))
    except OSError as error:
        how = "@- reads a list from standard input."
        raise InputError(
            f"Cannot read the list {name}: {error.strerror or error}.",
            hint=how
            if isinstance(error, IrregularError)
            else f"For a file that is called @{name} give ./@{name}.",
        ) from error
    paths = [_named(line) for line in _lines(data) if line.strip()]
    if not paths:
        raise InputError(f"The list {name} names no picture.", hint="Write one name on each line.")
    return paths


def _read_list(path: Path) -> bytes:
    return path.read_bytes() if is_remote(path) else read_regular(path, most_bytes=LARGEST_LIST)


def _lines(data: bytes) -> list[str]:
    """The names in a list in UTF-8, in UTF-16 with its mark, or in a Western encoding of old."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return re.split(r"\r\n|\r|\n", data.decode("utf-16", errors="replace"))
    data = data.removeprefix(codecs.BOM_UTF8)
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [_name_in_list(line) for line in lines]


def _name_in_list(line: bytes) -> str:
    """A name as its bytes say, unless only the letters that they had in Windows are a file."""
    name = os.fsdecode(line)
    try:
        line.decode()
    except UnicodeDecodeError:
        western = line.decode("cp1252", errors="replace")
        if not os.path.lexists(name) and os.path.lexists(western):
            return western
    return name


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
    if (naming.to_stdout or naming.names_a_file) and (len(inputs) != 1 or is_folder(inputs[0])):
        raise UsageError(
            f"-o {naming.output} names one file, but there may be several results.",
            hint="Name a folder.",
        )
    items: list[Item] = []
    ignored = left_out = 0
    resume = existing == "resume"
    keeps_manifest = len(inputs) > 1 or resume or naming.in_place or naming.folder is not None
    looks_back = resume and not naming.in_place
    for path in inputs:
        if path is STDIN:
            items.append(_stream(naming))
        elif is_folder(path):
            found = _in_folder(path, naming, recursive=recursive, resume=looks_back)
            items += found.items
            ignored += found.ignored
            left_out += found.left_out
        else:
            item = _single(path, naming, resume=looks_back)
            if keeps_manifest and not item.to_stdout:
                item = replace(item, root=naming.folder or item.target.parent)
            items.append(item)
    items = [replace(item, fate=item.error or too_long(item.target) or "new") for item in items]
    if not naming.template:
        items = told_apart(items)
    refuse_collisions(items, in_place=naming.in_place)
    selection = Selection(
        items=_with_fates(items, "replace" if naming.in_place else existing),
        ignored=ignored,
        left_out=left_out,
    )
    if not items:
        raise _nothing(inputs, naming, selection, recursive=recursive)
    return selection


def _nothing(
    inputs: Sequence[Path], naming: Naming, selection: Selection, *, recursive: bool
) -> InputError:
    """Why there is nothing to do, and what could be meant."""
    named = ", ".join(map(str, inputs[:3])) + ("" if len(inputs) <= 3 else ", …")
    seen = []
    if selection.ignored:
        seen.append(_count(selection.ignored, "file is no picture", "files are no pictures"))
    if selection.left_out:
        what = f"of an earlier {naming.task}"
        seen.append(_count(selection.left_out, f"is a result {what}", f"are results {what}"))
    below = 0 if recursive else sum(map(folders_below, inputs))
    hint = f"{'; '.join(seen)}. " if seen else ""
    if below:
        hint += f"{_count(below, 'folder', 'folders')} below: -r looks into them."
    return InputError(f"No pictures in {named}.", hint=hint.strip())


def _count(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


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
    data = streams.read_input()
    target = naming.of_stream(identify_data(io.BytesIO(data)))
    return Item(source=STDIN, target=target, data=data, to_stdout=naming.place is None)


def _single(path: Path, naming: Naming, *, resume: bool) -> Item:
    """A file that was named: whatever is wrong with it is an error."""
    error: RestoreError | None = None
    kind = None
    if "\\" in path.name and not is_remote(path) and not naming.names_a_file:
        return _unnameable(path, naming)
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


def _unnameable(path: Path, naming: Naming) -> Item:
    """A file whose name no result can have fails alone."""
    try:
        target = naming.of_file(path, None)
    except OutputError as error:
        return Item(source=path, target=path, fate=error)
    return Item(source=path, target=target)


def _not_an_image(path: Path) -> InputError:
    with open_regular(path) as file:
        head = file.read(HEAD_BYTES)
    if not head:
        return InputError(f"Cannot read {path}: the file is empty (0 bytes).")
    if kind := foreign(head):
        return InputError(f"Cannot restore {path}: it is {kind}, not a picture.")
    return not_an_image(str(path), head)


def _in_folder(folder: Path, naming: Naming, *, recursive: bool, resume: bool) -> Selection:
    """Pictures in ``folder`` by content; other files are counted, broken pictures are items."""
    root = naming.of_folder(folder)
    own = OwnResults(folder, naming.task)
    left_out = 0

    def target_of(path: Path, kind: str | None) -> Path:
        if naming.in_place:
            return path
        name = naming.name(path, kind, IN_FOLDER)
        return (root / path.relative_to(folder)).with_name(name)

    def kind_of(path: Path) -> str | None:
        return _kind(path, result=target_of(path, None) if resume else None)

    def is_result(path: Path) -> bool:
        nonlocal left_out
        is_own = not naming.in_place and (path in own or _is_result(path, naming.task))
        left_out += is_own
        return is_own

    look = partial(candidates, recursive=recursive, is_result=is_result, kind_of=kind_of)
    items = []
    ignored = 0
    for found in look(folder, results=root):
        if _is_ignored(found):
            ignored += 1
            continue
        error = found.error or _problem(found, naming)
        try:
            target = target_of(found.path, found.kind)
        except OutputError as problem:  # a name that no result can have
            target, error = found.path, error or problem
        items.append(
            Item(source=found.path, target=target, folder=folder, root=root, fate=error or "new")
        )
    return Selection(items=items, ignored=ignored, left_out=left_out)


def _is_ignored(found: Candidate) -> bool:
    """No picture, and its name does not promise one either."""
    promises = found.path.suffix.lower() in PICTURE_SUFFIXES
    return found.kind is None and found.error is None and not promises


def _problem(found: Candidate, naming: Naming) -> RestoreError | None:
    if found.kind is None:
        return _not_an_image(found.path)
    return in_place_error(found.path, found.kind) if naming.in_place else None


def _is_result(path: Path, task: str) -> bool:
    """Whether ``path`` is what an earlier run made of a picture beside it."""
    whole = path.stem.removesuffix(f".{MARK}")  # of a result; otherwise of a preview, a PNG
    stem, dot, made_by = whole.rpartition(".")
    if not dot or made_by != task:
        return False
    if whole != path.stem:
        return any(path.with_name(stem + suffix).exists() for suffix in PICTURE_SUFFIXES)
    return any(path.with_name(stem + s).exists() for s in (path.suffix, *HEIC_SUFFIXES))
