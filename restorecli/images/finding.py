"""Which pictures are in a folder: one rule for restoring, scoring and comparing.

Content decides what a picture is, not the ending. Hidden files and folders are left out, pipes and
devices too; the order is that of a file manager: ``2.png`` before ``10.png``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from natsort import os_sorted

from restorecli.errors import InputError, RestoreError
from restorecli.files.addresses import files, is_remote
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
        if path.is_dir():
            for candidate in candidates(path, recursive=True):
                if candidate.error:
                    raise candidate.error
                if candidate.kind is None:
                    ignored += 1
                else:
                    relative = relative_to(candidate.path, path)
                    pictures.append(Picture(path=candidate.path, relative=relative))
        elif path.exists():
            pictures.append(Picture(path=path, relative=relative_to(path, None)))
        else:
            raise InputError(f"There is no file or folder {str(path)!r}.")
    if not pictures:
        raise InputError(f"No picture in {', '.join(repr(str(path)) for path in paths)}.")
    return Found(
        pictures=tuple(pictures), ignored=ignored, from_folder=any(p.is_dir() for p in paths)
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
        if is_result(path):
            continue
        try:
            yield Candidate(path=path, kind=kind_of(path), error=None)
        except RestoreError as error:
            yield Candidate(path=path, kind=None, error=error)


def is_folder(path: Path) -> bool:
    """A request for each picture of a long list would take hours: at an address names decide."""
    if is_remote(path) and path.suffix.lower() in PICTURE_SUFFIXES:
        return False
    return path.is_dir()


def _files(folder: Path, results: Path | None, *, recursive: bool) -> Iterator[Path]:
    if is_remote(folder):
        return _remote_files(folder, results, recursive=recursive)
    left_out = {results.resolve()} if results else set()
    return _local_files(folder, recursive=recursive, seen=left_out)


def _local_files(folder: Path, *, recursive: bool, seen: set[Path]) -> Iterator[Path]:
    """Folders that were ``seen`` are not entered again: links may lead in circles."""
    seen.add(folder.resolve())
    for path in os_sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if recursive and path.resolve() not in seen:
                yield from _local_files(path, recursive=True, seen=seen)
        elif path.is_file() or not path.exists():  # a broken link is told, a pipe is left alone
            yield path


def _remote_files(folder: Path, results: Path | None, *, recursive: bool) -> Iterator[Path]:
    found = os_sorted(path for path, size_bytes in files(folder, recursive=recursive) if size_bytes)
    for path in found:
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and (results in {None, folder} or results not in path.parents):
            yield path
