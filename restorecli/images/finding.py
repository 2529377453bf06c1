"""Which pictures are in a folder: one rule for restoring, scoring and comparing.

Content decides what a picture is, not the ending. Hidden files and folders are left out, pipes and
devices too; the order is that of a file manager: ``2.png`` before ``10.png``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from natsort import os_sorted

from restorecli.errors import InputError, RestoreError
from restorecli.files.addresses import files, is_remote
from restorecli.files.regular import is_directory
from restorecli.images.formats import FORMAT_OF_SUFFIX, HEIC_SUFFIXES, READ_SUFFIXES
from restorecli.images.reading import identify

PICTURE_SUFFIXES = {*FORMAT_OF_SUFFIX, *HEIC_SUFFIXES, *READ_SUFFIXES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture file, and its path below the folder it was found in."""

    path: Path
    relative: PurePosixPath

    @property
    def key(self) -> PurePosixPath:
        """Relative path without the ending."""
        return self.relative.with_suffix("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The pictures below some files and folders."""

    pictures: tuple[Picture, ...]
    ignored: int  # files in the folders that are no pictures
    from_folder: bool  # false when every one was named by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file in a folder, and the format of the picture in it: ``None`` if it is none."""

    path: Path
    kind: str | None
    error: RestoreError | None  # why nothing is known of it


def find_pictures(paths: Sequence[Path]) -> Found:
    """The pictures in ``paths``: files as named, folders with everything below them.

    Raises:
        InputError: a path does not exist or cannot be read, or there is no picture at all.
    """
    pictures: list[Picture] = []
    ignored = 0
    for path in paths:
        if is_directory(path):
            for candidate in candidates(path, recursive=True):
                if candidate.error:
                    raise candidate.error
                if candidate.kind is None:
                    ignored += 1
                else:
                    relative = relative_to(candidate.path, path)
                    pictures.append(Picture(path=candidate.path, relative=relative))
        elif os.path.exists(path):  # noqa: PTH110 (a Path raises where it may not look)
            pictures.append(Picture(path=path, relative=relative_to(path, None)))
        else:
            raise InputError(f"There is no file or folder {str(path)!r}.")
    if not pictures:
        raise InputError(f"No picture in {', '.join(repr(str(path)) for path in paths)}.")
    return Found(
        pictures=tuple(pictures), ignored=ignored, from_folder=any(map(is_directory, paths))
    )


def relative_to(path: Path, folder: Path | None) -> PurePosixPath:
    """The way from ``folder``, in which ``path`` was found; its name if it was named itself."""
    return PurePosixPath(path.relative_to(folder).as_posix() if folder else path.name)


def candidates(
    folder: Path,
    *,
    recursive: bool,
    results: Path | None = None,
    is_result: Callable[[Path], bool] = lambda path: False,
    kind_of: Callable[[Path], str | None] = identify,
) -> Iterator[Candidate]:
    """Files of ``folder`` in natural order, and what pictures they are.

    Args:
        folder: Where to look, also at an address.
        recursive: Look in folders of folders, too.
        results: A folder to leave out: results of this run are no inputs.
        is_result: Whether a file is to be left out, because an earlier run made it.
        kind_of: The format of a picture, ``None`` for none; may raise ``RestoreError``.
    """
    for path in _files(folder, results, recursive=recursive):
        if isinstance(path, Candidate):
            yield path
            continue
        try:
            if not is_result(path):
                yield Candidate(path=path, kind=kind_of(path), error=None)
        except RestoreError as error:
            yield Candidate(path=path, kind=None, error=error)


def is_folder(path: Path) -> bool:
    """A request for each picture of a long list would take hours: at an address names decide."""
    if is_remote(path) and path.suffix.lower() in PICTURE_SUFFIXES:
        return False
    return is_directory(path)


def folders_below(folder: Path) -> int:
    """How many folders are in ``folder``, not counting those in them; 0 at an address."""
    if is_remote(folder):
        return 0
    with suppress(OSError), os.scandir(folder) as entries:
        return sum(entry.is_dir() and not entry.name.startswith(".") for entry in entries)
    return 0


def _files(folder: Path, results: Path | None, *, recursive: bool) -> Iterator[Path | Candidate]:
    if is_remote(folder):
        return _remote_files(folder, results, recursive=recursive)
    left_out = {results.resolve()} if results else set()
    return _local_files(folder, recursive=recursive, seen=left_out)


def _local_files(folder: Path, *, recursive: bool, seen: set[Path]) -> Iterator[Path | Candidate]:
    """Files, and folders that cannot be looked into with the reason.

    Folders that were ``seen`` are not entered again: links may lead in circles.
    """
    waiting = [iter([folder])]  # of each folder from the outermost to this one, what is left
    first = True
    while waiting:
        path = next(waiting[-1], None)
        if path is None:
            waiting.pop()
            continue
        try:
            is_folder = first or path.is_dir()
            if is_folder and (first or (recursive and path.resolve() not in seen)):
                seen.add(path.resolve())
                inside = [each for each in path.iterdir() if not each.name.startswith(".")]
                waiting.append(iter(os_sorted(inside)))
            elif not is_folder and (path.is_file() or not path.exists()):
                yield path  # a broken link is told, a pipe is left alone
        except OSError as error:
            yield Candidate(path=path, kind=None, error=_closed(path, error))
        first = False


def _closed(path: Path, error: OSError) -> InputError:
    return InputError(
        f"Cannot look into {path}: {error.strerror or error}.",
        hint="Give yourself the right to read it, or leave it out.",
    )


def _remote_files(folder: Path, results: Path | None, *, recursive: bool) -> Iterator[Path]:
    found = os_sorted(path for path, size_bytes in files(folder, recursive=recursive) if size_bytes)
    for path in found:
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and (results in {None, folder} or results not in path.parents):
            yield path
