"""Who is told while a run goes on."""

from __future__ import annotations

from typing import Protocol

from restorecli.report import Row


class Listener(Protocol):
    """Who is told while a run goes on."""

    def start(self, total: int) -> None:
        """Work on ``total`` inputs begins."""

    def begin(self) -> None:
        """Work on the next input begins; earlier ones may not have come to their end."""

    def advance(self, share: float) -> None:
        """``share`` of the current image has been done."""

    def finish(self, row: Row) -> None:
        """One input has come to its end: from whichever thread."""


class Silent:
    """A listener where nobody listens."""

    def start(self, total: int) -> None:
        """Work on ``total`` inputs begins."""

    def begin(self) -> None:
        """Work on the next input begins."""

    def advance(self, share: float) -> None:
        """``share`` of the current image has been done."""

    def finish(self, row: Row) -> None:
        """One input has come to its end."""
