"""Open a page in the browser of this machine, if it has one and somebody sees it."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

WINDOWS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")  # one of them, where there are windows


def open_in_browser(page: Path | str) -> bool:
    """Open a file, or an address; whether that could be begun. A terminal is never taken over."""
    if not has_windows():
        return False
    try:
        return webbrowser.open(page if isinstance(page, str) else page.absolute().as_uri())
    except (OSError, ValueError, webbrowser.Error):
        return False


def has_windows() -> bool:
    """Whether this machine has windows to show a page in."""
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in WINDOWS)


def somebody_sits_here() -> bool:
    """Whether a person at this machine would see a page that is opened unasked."""
    return sys.stderr.isatty() and "SSH_CONNECTION" not in os.environ and has_windows()
