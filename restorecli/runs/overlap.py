"""While one item is worked on, the next one is read and the last one is written."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Beside(Generic[T]):
    """Two threads beside the one that works: at most one item is read ahead, and one written.

    A context manager. Leaving it waits for what is under way, whatever ends the work: Ctrl-C is
    raised in the main thread only, so what is being written gets finished.
    """

    def __init__(self) -> None:
        self._reader = ThreadPoolExecutor(1, "read")
        self._writer = ThreadPoolExecutor(1, "write")
        self._ahead: Future[T] | None = None
        self._behind: Future[None] | None = None

    def __enter__(self) -> Beside[T]:
        return self

    def __exit__(self, *exception: object) -> None:
        self._reader.shutdown(cancel_futures=True)
        self._writer.shutdown()

    def read(self, job: Callable[[], T]) -> None:
        """Begin to read an item; `taken` gives it."""
        self._ahead = self._reader.submit(job)

    def taken(self) -> T | None:
        """What was read ahead, as soon as it is there; ``None`` if nothing was, or if it failed.

        A failure is no news of the item: it may be too large to be read beside other work. It is
        read once more in its turn.
        """
        ahead, self._ahead = self._ahead, None
        return None if ahead is None or ahead.exception() else ahead.result()

    def write(self, job: Callable[[], None]) -> None:
        """Begin to write an item once the one before it is written; raises like `written`."""
        self.written()
        self._behind = self._writer.submit(job)

    def written(self) -> None:
        """Wait until nothing is being written; raises what writing raised."""
        behind, self._behind = self._behind, None
        if behind is not None:
            behind.result()
