"""The folders of this user: for settings, networks beside the bundled ones, and results."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

HOME_VARIABLE = "RESTORE_HOME"  # one folder for everything, for example on a shared disk


def configuration_folder() -> Path | None:
    """Where settings and the list of one's own networks lie; ``None`` without a home folder."""
    import platformdirs

    return _own_folder() or _at_home(platformdirs.user_config_path)


def cache_folder() -> Path | None:
    """Where installed networks lie; ``None`` without a home folder."""
    import platformdirs

    return _own_folder() or _at_home(platformdirs.user_cache_path)


def state_folder() -> Path | None:
    """Where results lie for which nobody named a folder; ``None`` without a home folder."""
    import platformdirs

    return _own_folder() or _at_home(platformdirs.user_state_path)


def _own_folder() -> Path | None:
    own = os.environ.get(HOME_VARIABLE)
    return Path(own) if own else None


def _at_home(folder_of: Callable[..., Path]) -> Path | None:
    try:
        folder = folder_of("restorecli", appauthor=False)
    except RuntimeError:  # neither HOME nor an entry among the system's users
        return None
    return None if folder.parts[:1] == ("~",) else folder
