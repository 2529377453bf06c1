"""Addresses such as ``s3://bucket/folder/photo.png``, which are used as paths are.

fsspec (extra ``restorecli[remote]``) does the transport: credentials come from the usual
environment, and its libraries repeat what fails for a moment. What fails for good is an
``OSError`` here, as with files, so nobody above needs to know which library spoke.
"""

from __future__ import annotations

import errno
import glob
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any, cast
from urllib.parse import unquote

from restorecli.errors import InputError, OutputError, UsageError
from restorecli.machine.extras import install_hint

SEPARATOR = "://"
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+")  # of two characters: C: is a drive
READ_AHEAD_BYTES = 2**18  # of a file of which the beginning may be enough
MOST_UNPROMISED_BYTES = 2**31  # of a file whose server does not tell its size
CONNECT_S, READ_S = 10, 60
OPTIONS: dict[str, dict[str, Any]] = {  # of fsspec
    "s3": {"config_kwargs": {"connect_timeout": CONNECT_S, "read_timeout": READ_S}}
}
WEB = {"http", "https"}
PUBLIC_HUB = "https://huggingface.co"
SECRETS = (  # user:password@ before a host; what follows a question mark, such as a signature
    (re.compile(r"((?<=:/)|(?<=://))[^/\s@'\"]+@"), "…@"),
    (re.compile(r"(\b[A-Za-z][\w+.-]+:/{1,2}[^\s?'\"<>]*)\?[^\s'\"<>)]+"), r"\1?…"),
)


class Address(PurePosixPath):
    """A file or folder of a remote file system: the part of `pathlib.Path` that we use."""

    def __str__(self) -> str:
        """For people and reports: a password or a signature in it is not shown."""
        return redacted(self.address)

    @property
    def address(self) -> str:
        """The whole of it, secrets too."""
        scheme, _, rest = super().__str__().partition(":/")
        return f"{scheme}{SEPARATOR}{rest}"

    @property
    def name(self) -> str:
        """The last part; of a web address without its query, which no file's name should have."""
        name = super().name
        return name.partition("?")[0] if self.scheme in WEB else name

    @property
    def scheme(self) -> str:
        """What stands before ``://``."""
        return self.parts[0].removesuffix(":")

    def relative_to(self, *other: Any, **options: Any) -> PurePosixPath:  # type: ignore[override]
        """The rest of the way: no address any more."""
        return PurePosixPath(*super().relative_to(*other, **options).parts)

    @property
    def key(self) -> str:
        """What the file system itself calls it: without the scheme, but on the web."""
        return self.address if self.scheme in WEB else "/".join(self.parts[1:])

    @property
    def system(self) -> Any:
        """The fsspec file system."""
        return _system(self.scheme)

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
        """Open for reading; more is fetched as it is asked for, up to the promised size."""
        with _as_os_error():
            file = self.system.open(self.key, mode, block_size=READ_AHEAD_BYTES)
        return cast("IO[bytes]", io.BufferedReader(_Promised(file), READ_AHEAD_BYTES))

    def read_bytes(self) -> bytes:
        """The whole content."""
        with self.open("rb") as file:
            return file.read()

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


class _Promised(io.RawIOBase):
    """A remote file of which no more is read than its server has promised."""

    def __init__(self, file: Any) -> None:
        self.file = file
        promised = getattr(file, "size", None)
        self.most_bytes = MOST_UNPROMISED_BYTES if promised is None else int(promised)
        self.at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        with _as_os_error():
            return bool(self.file.seekable())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with _as_os_error():
            self.at = int(self.file.seek(offset, whence))
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        with _as_os_error():
            data = self.file.read(len(buffer))
        self._count(len(data))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        with _as_os_error():
            data = bytes(self.file.read(self.most_bytes - self.at + 1))
        self._count(len(data))
        return data

    def close(self) -> None:
        if not self.closed:
            with _as_os_error():
                self.file.close()
        super().close()

    def _count(self, size_bytes: int) -> None:
        self.at += size_bytes
        if self.at > self.most_bytes:
            raise OSError(errno.EFBIG, f"its server sends more than {self.most_bytes:,} bytes")


def redacted(text: str) -> str:
    """``text`` without passwords and queries in the addresses that it names."""
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return text


def hub_token() -> str | bool | None:
    """The token for the Hub's client: a saved one belongs to the public Hub and goes nowhere else.

    Another ``HF_ENDPOINT`` gets one only by ``HF_TOKEN``.
    """
    from huggingface_hub import constants

    if constants.ENDPOINT.rstrip("/") == PUBLIC_HUB:
        return None  # the client's own choice
    return os.environ.get("HF_TOKEN") or False


def is_remote(path: PurePath) -> bool:
    """Whether ``path`` is an address."""
    return isinstance(path, Address)


def is_address(text: str) -> bool:
    """Whether `path_of` would make an address of ``text``; what reads it need not be installed."""
    return _has_scheme(text) and not text.startswith(f"file{SEPARATOR}")


def _has_scheme(text: str) -> bool:
    scheme, separator, _ = text.partition(SEPARATOR)
    is_name = not separator or "/" in scheme or len(scheme) < 2
    return not is_name and not os.path.lexists(text)


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
    for key, facts in found.items():
        if facts.get("type") != "directory":  # of a web server, each link is one or the other
            yield path_of(_whole(place.scheme, key)), facts.get("size") or 0


def path_of(text: str) -> Path:
    """``text`` as a path, or as an `Address` if it has a scheme, which is used as a path is.

    Raises ``UsageError`` for a scheme that nothing here knows, ``InputError`` for a name that
    would become another one.
    """
    if not _has_scheme(text):
        return Path(text)
    scheme, _, rest = text.partition(SEPARATOR)
    if not SCHEME.fullmatch(scheme):
        raise UsageError(
            f"Cannot use {redacted(text)}: {scheme}{SEPARATOR} is no kind of address.",
            hint="Give a path, or an address such as s3://bucket/folder.",
        )
    if scheme == "file":
        return _local(rest)
    found = Address(f"{scheme}:/{rest}")
    if found.address != text.rstrip("/") or ".." in found.parts:
        raise InputError(
            f"Cannot use {redacted(text)}: empty, . or .. between slashes would make it {found}.",
            hint="Rename it.",
        )
    _system(scheme)
    return cast("Path", found)


def _local(rest: str) -> Path:
    """What ``file://`` stands before: a path of this machine, with %20 for a space."""
    path = rest.removeprefix("localhost")
    if not path.startswith("/"):
        raise UsageError(
            f"Cannot use file://{rest}: it names a file of another machine.",
            hint="Give three slashes, as in file:///home/me/photo.png, or the path alone.",
        )
    return Path(path if os.path.lexists(path) else unquote(path, errors="surrogateescape"))


def matching(pattern: str) -> list[str]:
    """Names that ``pattern`` stands for: of files here, or at an address."""
    scheme, separator, rest = pattern.partition(SEPARATOR)
    if not separator or not SCHEME.fullmatch(scheme):
        return glob.glob(pattern, recursive=True)  # noqa: PTH207 (absolute patterns)
    if scheme in WEB:  # a question mark begins a query there
        return [pattern]
    with _as_os_error():
        return [_whole(scheme, key) for key in _system(scheme).glob(rest)]


def _whole(scheme: str, key: str) -> str:
    return key if SEPARATOR in key else f"{scheme}{SEPARATOR}{key.lstrip('/')}"


class Existing:
    """Which names are taken. A folder at an address is listed once, not asked for each name."""

    def __init__(self) -> None:
        self.listed: dict[Path, set[Path]] = {}

    def __call__(self, path: Path) -> bool:
        """Whether there is anything at ``path``; ``OutputError`` where nobody can tell."""
        if not is_remote(path):
            return os.path.lexists(path)
        if path.parent not in self.listed:
            try:
                self.listed[path.parent] = {file for file, _ in files(path.parent, recursive=False)}
            except OSError as error:
                reason = (error.strerror or str(error)).partition("\n")[0].rstrip(".:")
                raise OutputError(
                    f"Cannot look whether {path} exists: {reason}.", hint="Check the address."
                ) from error
        return path in self.listed[path.parent]


@cache
def _system(scheme: str) -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(
            f"{scheme}{SEPARATOR} needs a further package.",
            hint=install_hint("gcs" if scheme in {"gs", "gcs"} else "remote"),
        ) from error
    options = dict(OPTIONS.get(scheme, {}))
    try:
        if scheme == "hf":
            options["token"] = hub_token()
        elif scheme in WEB:
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
            options["client_kwargs"] = {"timeout": timeout}
        return fsspec.filesystem(scheme, use_listings_cache=False, **options)
    except Exception as error:  # each package has reasons of its own not to be used
        first = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
        raise UsageError(
            f"Cannot use {scheme}{SEPARATOR}: {redacted(first)}.",
            hint="Copy the files here and give their paths.",
        ) from error


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Whatever a storage library raises is an ``OSError`` with its sentence."""
    try:
        yield
    except Exception as error:  # botocore, aiohttp and others have trees of their own
        kinds = (FileExistsError, FileNotFoundError, PermissionError, IsADirectoryError)
        kind = next((kind for kind in kinds if isinstance(error, kind)), OSError)
        reason = redacted(str(error)) or type(error).__name__
        raise kind(errno.EIO, f"{type(error).__name__}: {reason}") from error
