"""Where checkpoints and the user's own registry lie, and who may write there at one time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import platformdirs

from restorecli.errors import WeightsError
from restorecli.files.locks import locked

HOME_VARIABLE = "RESTORE_HOME"  # one folder for everything, for example on a shared disk
ELSEWHERE = f"Set {HOME_VARIABLE} to a folder that can be written."


def registry_path() -> Path:
    """The user's ``weights.toml``; it need not exist. Raises ``WeightsError`` without a home."""
    return (_own_folder() or _at_home(platformdirs.user_config_path)) / "weights.toml"


def cache_folder() -> Path:
    """Where installed checkpoints and unfinished downloads lie; it need not exist.

    Raises ``WeightsError`` when this user has no home folder, as some have in containers.
    """
    return _own_folder() or _at_home(platformdirs.user_cache_path)


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


def _own_folder() -> Path | None:
    own = os.environ.get(HOME_VARIABLE)
    return Path(own) if own else None


def _at_home(folder_of: Callable[..., Path]) -> Path:
    try:
        folder = folder_of("restorecli", appauthor=False)
    except RuntimeError:  # neither HOME nor an entry among the system's users
        folder = Path("~")
    if folder.parts[:1] == ("~",):
        raise WeightsError(
            "There is no place for networks beside the bundled ones: this user has no home folder.",
            hint=ELSEWHERE,
        )
    return folder
