"""Which files are restored, and where each result goes. Nothing is written here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from natsort import os_sorted

from restorecli.errors import InputError, OutputError, RestoreError, UsageError
from restorecli.images import FORMAT_OF_SUFFIX, identify


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One picture to restore. ``error`` is set when it is known to be unusable already."""

    source: Path
    target: Path
    error: RestoreError | None = None
    finished: bool = False  # the target is there and is to be kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """All items of a run, in natural order within each folder."""

    items: Sequence[Item]
    ignored: int = 0  # files in folders that are not pictures


def select(
    inputs: Sequence[Path],
    task: str,
    output: Path | None,
    *,
    recursive: bool,
    overwrite: bool,
    skip_existing: bool,
) -> Selection:
    """Pair every input with its target and refuse what would lose something.

    One file goes beside itself as ``photo.<task>.png``, a folder beside itself as
    ``photos.<task>/`` with its tree and names; ``output`` names a file (for one input file) or a
    folder instead. Raises ``OutputError`` for two inputs with one target, for targets that exist
    (unless ``overwrite`` or ``skip_existing``) and for targets that are inputs.
    """
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other.")
    names_a_file = output is not None and _names_a_file(output)
    if output is not None and names_a_file and (len(inputs) != 1 or inputs[0].is_dir()):
        raise UsageError(
            f"-o {output} names one file, but there may be several results.",
            hint="Name a folder.",
        )
    items: list[Item] = []
    ignored = 0
    for path in inputs:
        if path.is_dir():
            root = output or path.with_name(f"{path.resolve().name}.{task}")
            found, others = _in_folder(path, root, task, recursive=recursive)
            items += found
            ignored += others
        else:
            items.append(_single(path, task, output, names_a_file=names_a_file))
    _refuse_collisions(items)
    if skip_existing:
        items = [replace(item, finished=item.target.exists()) for item in items]
    elif not overwrite:
        _refuse_existing([item.target for item in items if item.target.exists()])
    return Selection(items=items, ignored=ignored)


def _refuse_existing(targets: Sequence[Path]) -> None:
    if targets:
        more = f" and {len(targets) - 1} more" if len(targets) > 1 else ""
        raise OutputError(
            f"{targets[0]}{more} would be overwritten.",
            hint="Give --overwrite to replace, --skip-existing to go on, or another -o.",
        )


def _names_a_file(output: Path) -> bool:
    return output.suffix.lower() in FORMAT_OF_SUFFIX and not output.is_dir()


def _single(path: Path, task: str, output: Path | None, *, names_a_file: bool) -> Item:
    """A file that was named: whatever is wrong with it is an error."""
    beside = path.with_name(f"{path.stem}.{task}{path.suffix}")
    target = output / path.name if output and not names_a_file else output or beside
    try:
        kind = identify(path)
        if kind is None and path.stat().st_size:
            with path.open("rb") as file:
                start = file.read(12).decode("latin-1")
            raise InputError(f"Cannot read {path}: not an image (starts with {start!r}).")
        if kind is None:
            raise InputError(f"Cannot read {path}: the file is empty (0 bytes).")
    except RestoreError as error:
        return Item(source=path, target=target, error=error)
    return Item(source=path, target=target)


def _in_folder(folder: Path, root: Path, task: str, *, recursive: bool) -> tuple[list[Item], int]:
    """Pictures in ``folder`` by content; other files are counted, broken pictures are items."""
    items = []
    ignored = 0
    for path in _files(folder, root, recursive=recursive):
        if _is_result(path, task):
            continue
        target = root / path.relative_to(folder)
        try:
            kind = identify(path)
        except RestoreError as error:
            items.append(Item(source=path, target=target, error=error))
            continue
        if kind is not None:
            items.append(Item(source=path, target=target))
        elif path.suffix.lower() in FORMAT_OF_SUFFIX:
            problem = InputError(f"Cannot read {path}: not an image, or damaged at its beginning.")
            items.append(Item(source=path, target=target, error=problem))
        else:
            ignored += 1
    return items, ignored


def _is_result(path: Path, task: str) -> bool:
    """Whether ``path`` is what an earlier run made of a picture beside it."""
    stem, dot, made_by = path.stem.rpartition(".")
    return bool(dot) and made_by == task and path.with_name(stem + path.suffix).exists()


def _files(folder: Path, root: Path, *, recursive: bool) -> Iterator[Path]:
    """Files of ``folder`` in natural order; hidden ones and the results' folder are left out."""
    for path in os_sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if recursive and path.resolve() != root.resolve():
                yield from _files(path, root, recursive=True)
        else:
            yield path


def _key(path: Path) -> str:
    """The same for two names of one file, also where upper and lower case are one."""
    return os.path.normcase(path.resolve()).casefold()


def _refuse_collisions(items: Sequence[Item]) -> None:
    sources = {_key(item.source): item.source for item in items}
    targets: dict[str, Path] = {}
    for item in items:
        key = _key(item.target)
        if key in targets:
            raise OutputError(
                f"{targets[key]} and {item.source} would both become {item.target}.",
                hint="Restore them in two runs, with different -o.",
            )
        if key in sources:
            raise OutputError(
                f"{item.target} is an input and would be replaced by a result.",
                hint="Choose another place with -o.",
            )
        targets[key] = item.source
