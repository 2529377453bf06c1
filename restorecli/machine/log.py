"""Who hears of reasons (``-v``), and who keeps all that was said (``--log``): a logger for all.

Rooms say why they did something by ``logging.getLogger(__name__).info(…)``; nobody hears it unless
one of the two was asked for. What people were told anyway goes into the file too, by `told`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from restorecli.errors import OutputError

ALL = logging.getLogger("restorecli")
TOLD = logging.getLogger("restorecli.told")  # what stands on the terminal already
ALL.propagate = False
ALL.addHandler(logging.NullHandler())


class _Said(logging.Handler):
    """Reasons, one by one, to a function that shows them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self.say = say
        self.addFilter(lambda record: record.name != TOLD.name)

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        self.say(record.getMessage())


def say_why(say: Callable[[str], None]) -> None:
    """From now on hand every reason to ``say``."""
    ALL.addHandler(_Said(say))
    ALL.setLevel(logging.INFO)


def keep_in(path: Path) -> None:
    """From now on append all that is said to the file ``path``, with the time.

    Raises ``OutputError`` if it cannot be written.
    """
    try:
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(
            f"Cannot write the log {path}: {error.strerror or error}.",
            hint="Give --log a file in a folder that exists.",
        ) from error
    form = logging.Formatter("%(asctime)sZ %(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler.setFormatter(form)
    ALL.addHandler(handler)
    ALL.setLevel(logging.INFO)


def told(text: str) -> None:
    """Keep what a person was told."""
    TOLD.info("%s", text)


def stop() -> None:
    """Nobody hears any more; files are closed."""
    for handler in ALL.handlers[1:]:
        ALL.removeHandler(handler)
        handler.close()
    ALL.setLevel(logging.WARNING)
