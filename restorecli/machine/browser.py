"""Open a page in the browser of this machine, if it has one and somebody sees it."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

WINDOWS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")  # one of them, where there are windows


def open_in_browser(path: Path) -> bool:
    """Open the file ``path``; whether that could be begun. A terminal is never taken over."""
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in WINDOWS):
        return False
    try:
        return webbrowser.open(path.absolute().as_uri())
    except (OSError, ValueError, webbrowser.Error):
        return False
