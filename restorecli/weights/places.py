"""Where checkpoints and the user's own registry lie, and who may write there at one time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from restorecli.errors import WeightsError
from restorecli.files.locks import locked
from restorecli.machine import folders

ELSEWHERE = f"Set {folders.HOME_VARIABLE} to a folder that can be written."


def registry_path() -> Path:
    """The user's ``weights.toml``; it need not exist. Raises ``WeightsError`` without a home."""
    return _needed(folders.configuration_folder()) / "weights.toml"


def cache_folder() -> Path:
    """Where installed checkpoints and unfinished downloads lie; it need not exist.

    Raises ``WeightsError`` when this user has no home folder, as some have in containers.
    """
    return _needed(folders.cache_folder())


def has_home() -> bool:
    """Whether there is a place for networks of one's own; without one the bundled ones work."""
    try:
        cache_folder()
    except WeightsError:
        return False
    return True


@contextmanager
def lock(name: str) -> Iterator[None]:
    """What one process at a time may hold during the block; the others wait.

    Raises ``WeightsError`` where nothing can be written.
    """
    folder = cache_folder() / "locks"
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / f"{name}.lock"))
        except OSError as error:
            raise WeightsError(
                f"Cannot write {folder}: {error.strerror or error}.", hint=ELSEWHERE
            ) from error
        yield


def _needed(folder: Path | None) -> Path:
    if folder is None:
        raise WeightsError(
            "There is no place for networks beside the bundled ones: this user has no home folder.",
            hint=ELSEWHERE,
        )
    return folder
