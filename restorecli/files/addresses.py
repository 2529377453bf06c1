"""Addresses such as ``s3://bucket/folder/photo.png``, which are used as paths are.

fsspec (extra ``restorecli[remote]``) does the transport: credentials come from the usual
environment, and its libraries repeat what fails for a moment. What fails for good is an
``OSError`` here, as with files, so nobody above needs to know which library spoke.
"""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any, cast

from restorecli.errors import InputError, UsageError

SEPARATOR = "://"
READ_AHEAD_BYTES = 2**18  # of a file of which the beginning may be enough
OPTIONS = {"s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60}}}  # of fsspec


class Address(PurePosixPath):
    """A file or folder of a remote file system: the part of `pathlib.Path` that we use."""

    def __str__(self) -> str:
        scheme, _, rest = super().__str__().partition(":/")
        return f"{scheme}{SEPARATOR}{rest}"

    def relative_to(self, *other: Any, **options: Any) -> PurePosixPath:  # type: ignore[override]
        """The rest of the way: no address any more."""
        return PurePosixPath(*super().relative_to(*other, **options).parts)

    @property
    def key(self) -> str:
        """What the file system itself calls it: without the scheme."""
        return "/".join(self.parts[1:])

    @property
    def system(self) -> Any:
        """The fsspec file system."""
        return _system(self.parts[0].removesuffix(":"))

    def absolute(self) -> Address:
        """Addresses are."""
        return self

    def resolve(self) -> Address:
        """There are no links."""
        return self

    def is_symlink(self) -> bool:
        """There are no links."""
        return False

    def exists(self) -> bool:
        """Whether there is a file or a folder; raises ``OSError`` if that cannot be known."""
        with _as_os_error():
            return bool(self.system.exists(self.key))

    def is_dir(self) -> bool:
        """Whether something lies below this address."""
        with _as_os_error():
            return bool(self.system.isdir(self.key))

    def is_file(self) -> bool:
        """Whether there is a file of this name."""
        with _as_os_error():
            return bool(self.system.isfile(self.key))

    def stat(self) -> os.stat_result:
        """Size, and the permissions of any new file."""
        with _as_os_error():
            return os.stat_result((0o100666, 0, 0, 0, 0, 0, self.system.size(self.key), 0, 0, 0))

    def open(self, mode: str) -> IO[bytes]:
        """Open for reading; more is fetched as it is asked for."""
        with _as_os_error():
            file = self.system.open(self.key, mode, block_size=READ_AHEAD_BYTES)
            return cast("IO[bytes]", file)

    def read_bytes(self) -> bytes:
        """The whole content."""
        with _as_os_error():
            return bytes(self.system.cat_file(self.key))

    def write_bytes(self, data: bytes) -> None:
        """Store ``data``, visible only when complete."""
        upload(cast("Path", self), data, overwrite=True)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove the file."""
        with _as_os_error():
            try:
                self.system.rm_file(self.key)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def mkdir(self, *, parents: bool) -> None:
        """Folders are parts of names: nothing to do."""

    def rmdir(self) -> None:
        """Folders are parts of names: nothing to do."""


def is_remote(path: PurePath) -> bool:
    """Whether ``path`` is an address."""
    return isinstance(path, Address)


def upload(address: Path, data: bytes, *, overwrite: bool) -> None:
    """Store ``data`` at ``address``, visible only when complete.

    Raises ``FileExistsError`` when something is there and ``overwrite`` is false, ``OSError`` when
    it cannot be stored.
    """
    place = cast("Address", address)
    with _as_os_error():
        place.system.pipe_file(place.key, data, mode="overwrite" if overwrite else "create")


def files(folder: Path, *, recursive: bool) -> Iterator[tuple[Path, int]]:
    """Files in the remote ``folder``, or all below it, and their sizes in bytes.

    A few requests for thousands of them. Raises ``OSError``.
    """
    place = cast("Address", folder)
    with _as_os_error():
        found = place.system.find(place.key, maxdepth=None if recursive else 1, detail=True)
    scheme = place.parts[0].removesuffix(":")
    for key, facts in found.items():
        yield path_of(f"{scheme}{SEPARATOR}{key.lstrip('/')}"), facts["size"]


def path_of(text: str) -> Path:
    """``text`` as a path, or as an `Address` if it has a scheme, which is used as a path is.

    Raises ``UsageError`` for a scheme that nothing here knows, ``InputError`` for a name that
    would become another one.
    """
    scheme, separator, rest = text.partition(SEPARATOR)
    if not separator or not scheme.isalnum() or os.path.lexists(text):
        return Path(text)
    if scheme == "file":
        return Path(rest)
    found = Address(f"{scheme}:/{rest}")
    if str(found) != text.rstrip("/") or ".." in found.parts:
        raise InputError(
            f"Cannot use {text}: empty, . or .. between slashes would make it {found}.",
            hint="Rename it.",
        )
    _system(scheme)
    return cast("Path", found)


def matching(pattern: str) -> list[str]:
    """Names that ``pattern`` stands for: of files here, or at an address."""
    if SEPARATOR not in pattern:
        return glob.glob(pattern, recursive=True)  # noqa: PTH207 (absolute patterns)
    scheme, _, rest = pattern.partition(SEPARATOR)
    with _as_os_error():
        return [f"{scheme}{SEPARATOR}{key.lstrip('/')}" for key in _system(scheme).glob(rest)]


class Existing:
    """Which names are taken. A folder at an address is listed once, not asked for each name."""

    def __init__(self) -> None:
        self.listed: dict[Path, set[Path]] = {}

    def __call__(self, path: Path) -> bool:
        """Whether there is anything at ``path``."""
        if not is_remote(path):
            return os.path.lexists(path)
        if path.parent not in self.listed:
            self.listed[path.parent] = {file for file, _ in files(path.parent, recursive=False)}
        return path in self.listed[path.parent]


@cache
def _system(scheme: str) -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(
            f"{scheme}{SEPARATOR} needs a further package.",
            hint="Install it with: pip install 'restorecli[remote]'",
        ) from error
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False, **OPTIONS.get(scheme, {}))
    except (ImportError, ValueError) as error:
        raise UsageError(f"Cannot use {scheme}{SEPARATOR}: {error}.") from error


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Whatever a storage library raises is an ``OSError`` with its sentence."""
    try:
        yield
    except Exception as error:  # botocore, aiohttp and others have trees of their own
        kinds = (FileExistsError, FileNotFoundError, PermissionError, IsADirectoryError)
        kind = next((kind for kind in kinds if isinstance(error, kind)), OSError)
        raise kind(errno.EIO, f"{type(error).__name__}: {error}") from error
