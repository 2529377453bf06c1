"""Threads that share the rows of a plane: each has a section of its own, and one core.

The operations on a strip are small. Threads that shared each of them would wait for one another
most of the time; threads with rows of their own meet once for each pass over the plane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from queue import SimpleQueue
from threading import Barrier, Thread
from types import TracebackType
from typing import TypeVar

import torch

from restorecli.networks.strips.rows import SUM_ROWS, Strip, strips_of

T = TypeVar("T")
S = TypeVar("S")
R = TypeVar("R")
LEAST_PIXELS = 2**13  # of the widest plane for each worker, or they meet too often
Tick = Callable[[float], None]  # told the share of a pass that was just done


def silent(share: float) -> None:
    """Nobody wants to know."""


def worker_count(threads: int, pixels: int) -> int:
    """How many of ``threads`` share a picture with ``pixels`` in its widest plane."""
    return max(1, min(threads, pixels // LEAST_PIXELS))


class StoppedError(Exception):
    """A worker ended because another one failed."""


class Workers:
    """The threads, from entering to leaving the context: as many as torch may use of a processor.

    Their operations use one core each, so that their number does not change how values are rounded,
    and so do those of the thread that enters: the threads of OpenMP that it would start stay awake
    for a while, on cores that workers need. A small picture has fewer workers, and another device
    does all in the thread that enters.

    Args:
        device: Where the features are.
        pixels: Of the widest plane.
        most: Workers at most; all threads when ``None``.
    """

    def __init__(self, device: torch.device, pixels: int, most: int | None = None) -> None:
        self._threads = torch.get_num_threads()
        by_thread = "OpenMP" in torch.__config__.parallel_info()  # each may have its own number
        share = device.type == "cpu" and by_thread and self._threads > 1
        self.count = worker_count(min(self._threads, most or self._threads), pixels) if share else 1
        self._pool = ThreadPoolExecutor(self.count, "strips") if share else None
        self._stopped = False

    def __enter__(self) -> Workers:
        if self._pool is None:
            return self
        meeting = Barrier(self.count + 1)
        try:
            for _ in range(self.count):
                self._pool.submit(_begin, meeting)
        except RuntimeError:  # the system allows no more threads
            meeting.abort()
            self._pool.shutdown()
            self._pool, self.count = None, 1
        else:
            meeting.wait()
            self._use_one_core()
        return self

    def _use_one_core(self) -> None:
        """Operations of this thread use one core; of threads that others start, all."""
        torch.set_num_threads(1)  # of this thread, and what later ones begin with
        later = Thread(target=torch.set_num_threads, args=(self._threads,))
        later.start()
        later.join()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            torch.set_num_threads(self._threads)

    @contextmanager
    def outside(self) -> Iterator[None]:
        """For what others do meanwhile: their operations use as many cores as before."""
        if self._pool is None:
            yield
            return
        torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            self._use_one_core()

    def sections(self, height: int, strip_rows: int) -> Sections:
        """Rows of a plane for each worker, in strips of ``strip_rows`` at most.

        Sections begin where sums over pixels do: a plane of few rows has fewer of them.
        """
        blocks = -(-height // SUM_ROWS)
        count = min(self.count, blocks)
        edges = [min(SUM_ROWS * (blocks * i // count), height) for i in range(count + 1)]
        strips = [strips_of(height, strip_rows, first, last) for first, last in pairwise(edges)]
        return Sections(self, strips)

    def each(self, work: Callable[[T, Tick], R], items: Sequence[T], tick: Tick) -> list[R]:
        """What ``work`` gives for each of at most ``count`` items, which are done side by side.

        ``tick`` is called in this thread. When one fails, the others stop at their next tick.
        """
        if self._pool is None:
            return [work(item, tick) for item in items]
        shares: SimpleQueue[float | None] = SimpleQueue()
        inference = torch.is_inference_mode_enabled()

        def told(share: float) -> None:
            if self._stopped:
                raise StoppedError
            shares.put(share)

        def run(item: T) -> R:
            try:
                with torch.inference_mode(inference), torch.no_grad():
                    return work(item, told)
            except BaseException:
                self._stopped = True
                raise
            finally:
                shares.put(None)

        futures = [self._pool.submit(run, item) for item in items]
        try:
            for _ in futures:
                while (share := shares.get()) is not None:
                    tick(share)
        finally:
            self._stopped = any(not future.done() for future in futures) or self._stopped
            wait(futures)
            self._stopped = False
        return results_of(futures)


def results_of(futures: Sequence[Future[R]]) -> list[R]:
    """Results in order; raises what failed first in earnest, and not because another did."""
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, StoppedError)):
        raise error
    return [future.result() for future in futures]


def _begin(meeting: Barrier) -> None:
    """Operations of this thread use one core; all workers meet, so that each is another thread."""
    torch.get_num_threads()  # takes over the number of the process, which would come later
    torch.set_num_threads(1)
    meeting.wait()


@dataclass(frozen=True, slots=True)
class Sections:
    """The strips of a plane from the top, some for each worker."""

    workers: Workers
    parts: Sequence[Sequence[Strip]]

    def in_strips_of(self, strip_rows: int) -> Sections:
        """The same rows for each worker, in strips of ``strip_rows`` at most."""
        parts = [
            strips_of(part[0].height, strip_rows, part[0].start, part[-1].stop)
            for part in self.parts
        ]
        return Sections(self.workers, parts)

    def gather(
        self, start: Callable[[], S], take: Callable[[S, Strip], object], tick: Tick = silent
    ) -> list[S]:
        """Let every section's ``start()`` take its strips from the top; all of them, in order."""
        share = 1 / sum(len(part) for part in self.parts)

        def take_all(part: Sequence[Strip], told: Tick) -> S:
            state = start()
            for strip in part:
                take(state, strip)
                told(share)
            return state

        return self.workers.each(take_all, self.parts, tick)

    def each(self, work: Callable[[Strip], object], tick: Tick = silent) -> None:
        """``work`` on every strip, in each section from the top."""
        self.gather(lambda: None, lambda _, strip: work(strip), tick)

    def in_order(
        self, read: Callable[[Strip], T], work: Callable[[Strip, T], R]
    ) -> Iterator[tuple[Strip, R]]:
        """``work`` on every strip and what was read for it, handed out from the top of the plane.

        ``read`` is called in this thread and in that order.
        """
        strips = [strip for part in self.parts for strip in part]
        for first in range(0, len(strips), len(self.parts)):
            group = [(strip, read(strip)) for strip in strips[first : first + len(self.parts)]]
            results = self.workers.each(lambda item, _: work(*item), group, silent)
            yield from ((strip, result) for (strip, _), result in zip(group, results, strict=True))
