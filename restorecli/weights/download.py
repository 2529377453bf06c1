"""Published checkpoints from the Hugging Face Hub, or from the one address that is not there.

The Hub's own client does the work: its cache, its environment variables (``HF_HOME``,
``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_OFFLINE``) and its retries hold. A file is used only when
its size and hash are the ones in the registry.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm import tqdm

from restorecli.errors import WeightsError
from restorecli.files.addresses import hub_token
from restorecli.files.regular import TooLargeError
from restorecli.weights.choice import LARGEST_BYTES
from restorecli.weights.install import import_file, install, record
from restorecli.weights.places import ELSEWHERE, cache_folder, lock
from restorecli.weights.reading import Checkpoint, read_checkpoint
from restorecli.weights.registry import HubPlace, WeightEntry, hub_place
from restorecli.weights.store import is_unchanged

NOT_HERE = "there is no connection, and it is not in the Hub's cache"
ATTEMPTS = 5  # without a new byte between them
LONGEST_PAUSE_S = 8
PASSING = {408, 429, 500, 502, 503, 504}  # answers that may be others in a moment
Progress = Callable[[int, int | None], None]  # bytes that just came; of how many, if known


def download(
    entry: WeightEntry, *, offline: bool = False, on_progress: Progress = lambda n, total: None
) -> WeightEntry:
    """Get, check, convert and install ``entry``; nothing happens when it is there and unchanged.

    Of several processes that want it at once, one downloads and the others wait. Returns the
    entry, with the size and hash that were found if it had none. Raises ``WeightsError``.
    """
    with lock(entry.id):
        if entry.path is not None and entry.path.exists() and is_unchanged(entry.path):
            return entry
        if not entry.url:
            raise WeightsError(
                f"{entry.id} cannot be downloaded: {entry.note or 'it has no address'}.",
                hint=f"Then: restore models import {entry.file_name} --id {entry.id}",
            )
        checkpoint = _fetched(entry, offline, on_progress)
        if entry.sha256 is None:
            entry = entry.model_copy(
                update={
                    "sha256": checkpoint.sha256,
                    "size_bytes": checkpoint.size_bytes,
                    "note": "size and sha256 as first downloaded, from the pinned revision",
                }
            )
            install(entry, checkpoint)
            record(entry)
            return entry
        return install(entry, checkpoint)


def make_available(
    entry: WeightEntry, *, offline: bool = False, on_progress: Progress = lambda n, total: None
) -> WeightEntry:
    """``entry`` installed, after a download if there is an address and it is not here yet."""
    if entry.is_installed or not entry.url:
        return entry
    return download(entry, offline=offline, on_progress=on_progress)


def import_from_hub(
    address: str,
    *,
    offline: bool = False,
    on_progress: Progress = lambda n, total: None,
    **how: Any,
) -> WeightEntry:
    """Import ``hf://…`` as ``import_file`` imports a file; the commit is what gets recorded."""
    place = hub_place(address)
    path = _from_hub(place, offline, on_progress, address)
    commit = path.parts[-len(Path(place.file).parts) - 1]  # …/snapshots/<commit>/<file>
    return import_file(path, source=f"{address.partition('@')[0]}@{commit}", **how)


def _fetched(entry: WeightEntry, offline: bool, on_progress: Progress) -> Checkpoint:
    """The published file, read once and compared with the registry."""
    elsewhere = _by_hand(entry)
    if not entry.source.startswith("hf://"):
        path = _from_address(entry, offline, on_progress, elsewhere)
        if problem := _difference(entry, path):
            path.unlink()
            raise _wrong_file(entry, problem)
        checkpoint = read_checkpoint(path)
        path.unlink()
        return checkpoint
    place = hub_place(entry.source)
    was_there = _cached(place) is not None
    fetch = partial(
        _from_hub,
        place,
        offline,
        on_progress,
        entry.url,
        elsewhere,
        most_bytes=entry.size_bytes or LARGEST_BYTES,
    )
    path = fetch()
    problem = _difference(entry, path)
    if problem and was_there and not offline:  # the client's cache was altered
        path = fetch(force=True)
        problem = _difference(entry, path)
    if problem:
        raise _wrong_file(entry, problem)
    return read_checkpoint(path)


def _difference(entry: WeightEntry, path: Path) -> str:
    """How ``path`` differs from what the registry says, or an empty string."""
    size = path.stat().st_size
    if entry.size_bytes is not None and size != entry.size_bytes:
        return f"it has {size:,} bytes, expected {entry.size_bytes:,}"
    if size > LARGEST_BYTES:
        return f"it has {size:,} bytes, more than any checkpoint may have"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if entry.sha256 is not None and digest != entry.sha256:
        return f"its sha256 is {digest[:12]}…, expected {entry.sha256[:12]}…"
    return ""


def _wrong_file(entry: WeightEntry, problem: str) -> WeightsError:
    return WeightsError(
        f"{entry.url} is not the file that weights.toml describes: {problem}.",
        hint="Nothing was installed. Try again, or report it.",
    )


def _by_hand(entry: WeightEntry) -> str:
    """What to do without a connection: the command to run elsewhere, and where the file goes."""
    return (
        f"On a machine with a connection: curl -L -o {entry.file_name} {entry.url} — copy the file "
        f"here, then: restore models import {entry.file_name}"
        + ("" if entry.sha256 else f" --id {entry.id}")
    )


def _cached(place: HubPlace) -> Path | None:
    """The file in the client's cache; asks no server."""
    cached = huggingface_hub.try_to_load_from_cache(
        place.repository,
        place.file,
        revision=place.revision,
        repo_type=place.kind,
    )
    return Path(cached) if isinstance(cached, str) else None


def _from_hub(
    place: HubPlace,
    offline: bool,
    on_progress: Progress,
    address: str,
    hint: str = "Check the address, the connection and HF_TOKEN.",
    *,
    most_bytes: int = LARGEST_BYTES,
    force: bool = False,
) -> Path:
    """The file in the client's cache, downloaded if need be.

    Offline the client is not even asked: it would send a request of its own before it looks.
    It ends with ``WeightsError`` as soon as more than ``most_bytes`` are promised or have come.
    """
    if offline:
        if path := _cached(place):
            return path
        raise WeightsError(f"Cannot get {address}: {NOT_HERE}.", hint=hint)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # we say it ourselves
    try:
        return Path(
            huggingface_hub.hf_hub_download(
                place.repository,
                place.file,
                repo_type=place.kind,
                revision=place.revision,
                token=hub_token(),
                force_download=force,
                tqdm_class=_bar_for(on_progress, most_bytes),
            )
        )
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise WeightsError(f"Cannot get {address}: {reason}.", hint=hint) from error


def _reason(error: Exception) -> str | None:
    """Why a download failed, in a few words; ``None`` for what is no failed download."""
    if isinstance(error, (OfflineModeIsEnabled, LocalEntryNotFoundError)):
        cause = error.__cause__
        known = _reason(cause) if isinstance(cause, Exception) and cause is not error else None
        return known or NOT_HERE
    if isinstance(error, ValueError) and isinstance(error.__cause__, Exception):
        return _reason(error.__cause__)  # "Force download failed due to the above error"
    if isinstance(error, GatedRepoError):
        return "its owner has to grant you access first"
    if isinstance(error, RevisionNotFoundError):
        return "the repository has no such revision"
    if isinstance(error, EntryNotFoundError):
        return "the repository has no such file"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository, or it is not open to you"
    if isinstance(error, HfHubHTTPError):
        return f"the server answered {error.response.status_code}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in {"httpx", "httpx2"}:
        first = (str(error).splitlines() or [""])[0].rstrip(".")
        return first or type(error).__name__
    return None


def _bar_for(on_progress: Progress, most_bytes: int) -> type[Any]:
    """A tqdm class for the client that draws nothing, tells ``on_progress`` and ends excess."""

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            options["disable"] = True
            self.whole: int | None = options.get("total")
            self.come = int(options.get("initial") or 0)
            super().__init__(*args, **options)
            self._refuse_more_than_promised(self.whole or 0)

        def update(self, n: float | None = 1) -> None:
            self.come += int(n or 0)
            self._refuse_more_than_promised(self.come)
            on_progress(int(n or 0), self.whole)

        def _refuse_more_than_promised(self, size_bytes: int) -> None:
            if size_bytes > most_bytes:
                raise TooLargeError(
                    errno.EFBIG, f"it has {size_bytes:,} bytes, expected {most_bytes:,}"
                )

    return Bar


class _RefusedError(OSError):
    """An answer that will not change."""


def _from_address(entry: WeightEntry, offline: bool, on_progress: Progress, hint: str) -> Path:
    """Fetch a plain address beside the cache, going on where an earlier attempt ended.

    No token is sent. What has come stays when the connection breaks for good.
    """
    begun = cache_folder() / "partial" / f"{entry.sha256 or entry.id}.part"
    _prepare(begun.parent)
    failures = 0
    while True:
        before = begun.stat().st_size if begun.exists() else 0
        if offline:
            raise WeightsError(f"Cannot get {entry.url}: there is to be no connection.", hint=hint)
        try:
            _append(entry, begun, on_progress)
            return begun
        except Exception as error:
            reason = _reason(error)
            if reason is None:
                raise
            grown = begun.exists() and begun.stat().st_size > before
            failures = 0 if grown else failures + 1
            if failures >= ATTEMPTS or isinstance(error, (_RefusedError, OfflineModeIsEnabled)):
                raise WeightsError(f"Cannot get {entry.url}: {reason}.", hint=hint) from error
            time.sleep(min(2**failures, LONGEST_PAUSE_S))


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"Cannot write {folder}: {error.strerror or error}.", hint=ELSEWHERE
        ) from error


def _append(entry: WeightEntry, begun: Path, on_progress: Progress) -> None:
    """Add to ``begun`` what it lacks; a server that cannot resume makes it start over."""
    have = begun.stat().st_size if begun.exists() else 0
    if have and have == entry.size_bytes:
        return
    session = huggingface_hub.get_session()
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with session.stream("GET", entry.url, headers=headers, timeout=timeout) as response:
        if response.status_code == 416:  # what we have is no beginning of that file
            begun.unlink()
            raise OSError("the file there is shorter than what had come")
        if response.status_code >= 400:
            kind = OSError if response.status_code in PASSING else _RefusedError
            raise kind(f"the server answered {response.status_code}")
        resumed = response.status_code == 206
        with begun.open("ab" if resumed else "wb") as file:
            on_progress(have if resumed else 0, entry.size_bytes)
            for piece in response.iter_bytes():
                if file.tell() + len(piece) > (entry.size_bytes or LARGEST_BYTES):
                    break  # more than it can be: the comparison with the registry will say so
                file.write(piece)
                on_progress(len(piece), entry.size_bytes)
