"""The actors of a run: work is handed out, and done again when a worker dies."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from restorecli.errors import DeviceError, RestoreError
from restorecli.files.atomic import remove_partials
from restorecli.report import Row
from restorecli.runs.items import Item
from restorecli.runs.ray.probes import Probes
from restorecli.runs.ray.worker import MOMENT_S, Facts, Setup, Worker
from restorecli.runs.rows import failed

MOST_TRIES = 2  # of a picture whose worker dies
MOST_FAILED_STARTS = 3  # of actors, without one in between that came up
START_S = 300  # for actors to come up
MOST_AT_ONCE = 64  # pictures that an actor gets
END_S = 10  # for killed actors to be gone


@dataclass(slots=True, kw_only=True)
class Actor:
    """A Ray actor and what it does."""

    handle: Any
    answer: Any  # what comes next: its facts, then rows; ``None`` when it is idle
    facts: Facts | None = None  # ``None`` while it starts
    positions: tuple[int, ...] = ()  # of its pictures
    begun: float = 0.0  # when it got them


class Crew:
    """Actors that restore ``items``. A context manager: they end with the block.

    Pictures that take moments go to an actor several at a time. Others go alone, and so do all that
    an actor had when it died: a second death then tells which one it was. A picture that had its
    worker for itself, and whose worker died on a node that lives, is tried once more, with half of
    the memory; after that it is the picture's own failure. When a node dies, its pictures are
    simply done again: that says nothing of them.
    """

    def __init__(
        self,
        items: Sequence[Item],
        setup: Setup,
        probes: Probes,
        *,
        cpus: int,
        gpus: float,
        worker: type[Worker] = Worker,
    ) -> None:
        import ray

        self.items = items
        self.told = (ray.put(setup), probes)
        self.recipe: Any = ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_restarts=0, scheduling_strategy="SPREAD"
        )(worker)
        self.actors: list[Actor] = []
        self.tries: Counter[int] = Counter()
        self.lost: set[int] = set()  # positions whose worker or node went
        self.failed_starts = 0
        self.pace_s = math.inf  # a picture, as the last answer took

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *exception: object) -> None:
        """Kill the actors, and remove what they had half-written."""
        import ray

        answers = [actor.answer for actor in self.actors if actor.answer is not None]
        for actor in self.actors:
            ray.kill(actor.handle)
        if answers:
            ray.wait(answers, num_returns=len(answers), timeout=END_S)
        for actor in self.actors:
            self._clean_up_after(actor)

    def start(self, count: int) -> Facts:
        """Start ``count`` actors; raises the ``RestoreError`` of any that cannot work."""
        import ray

        for _ in range(count):
            self._hire()
        starting = [actor.answer for actor in self.actors]
        ready, _ = ray.wait(starting, num_returns=count, timeout=START_S)
        if not ready:
            raise DeviceError(
                f"No actor has started within {START_S} s: the cluster is busy.",
                hint="Wait for other jobs, or ask for less with --cpus-per-actor.",
            )
        facts: list[Facts] = []
        for actor in [actor for actor in self.actors if actor.answer in ready]:
            try:
                facts.append(self._started(actor))
            except ray.exceptions.RayActorError as error:
                raise DeviceError(
                    f"A worker died while it started: {_first_line(error)}",
                    hint="Is restorecli installed on every node, and is there enough memory?",
                ) from error
        return facts[0]

    def rows(self, work: Sequence[int]) -> Iterator[tuple[int, Row]]:
        """Restore the items at the positions in ``work``; rows come as they finish."""
        import ray

        waiting = deque(work)
        while waiting or self._is_busy():
            self._hand_out(waiting)
            answers = {a.answer: a for a in self.actors if a.answer is not None}
            ready, _ = ray.wait(list(answers), timeout=START_S) if answers else ([], [])
            if not ready and not self._is_busy():
                yield from self._give_up(waiting)
            for actor in map(answers.__getitem__, ready):
                try:
                    if not actor.positions:
                        self._started(actor)
                    else:
                        yield from self._rows_of(actor, waiting)
                except (ray.exceptions.RayActorError, RestoreError):  # a late start may fail so
                    yield from self._lost(actor, waiting)

    def _rows_of(self, actor: Actor, waiting: deque[int]) -> Iterator[tuple[int, Row]]:
        """What ``actor`` has done; what it did not get to is next again."""
        import ray

        rows: list[Row] = ray.get(actor.answer)
        done, left = actor.positions[: len(rows)], actor.positions[len(rows) :]
        actor.answer, actor.positions = None, ()
        waiting.extendleft(reversed(left))
        self.pace_s = (time.monotonic() - actor.begun) / len(rows)
        for position, row in zip(done, rows, strict=True):
            yield position, self._with_note(position, row)

    def _is_busy(self) -> bool:
        return any(actor.positions for actor in self.actors)

    def _hire(self) -> None:
        handle = self.recipe.remote()
        self.actors.append(Actor(handle=handle, answer=handle.start.remote(*self.told)))

    def _started(self, actor: Actor) -> Facts:
        import ray

        try:
            actor.facts = ray.get(actor.answer)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, RestoreError):
                raise error.cause from None
            raise
        actor.answer = None
        self.failed_starts = 0
        return actor.facts

    def _hand_out(self, waiting: deque[int]) -> None:
        """Pictures for each idle actor."""
        for actor in self.actors:
            if waiting and actor.answer is None:
                actor.positions = self._next(waiting)
                actor.begun = time.monotonic()
                actor.answer = actor.handle.restore.remote(
                    [self.items[position] for position in actor.positions],
                    again=actor.positions[0] in self.lost,
                    tighter=self.tries[actor.positions[0]] > 0,
                )

    def _next(self, waiting: deque[int]) -> tuple[int, ...]:
        """A lost picture alone; else as many as take a moment, and no more than an equal share."""
        share = -(-len(waiting) // len(self.actors))
        count = max(1, min(int(MOMENT_S / self.pace_s), MOST_AT_ONCE, share))
        positions = [waiting.popleft()]
        while len(positions) < count and self.lost.isdisjoint((positions[0], waiting[0])):
            positions.append(waiting.popleft())
        return tuple(positions)

    def _lost(self, actor: Actor, waiting: deque[int]) -> Iterator[tuple[int, Row]]:
        """Another actor takes the place of one that died, and its pictures are done again."""
        import ray

        self.actors.remove(actor)
        with suppress(ray.exceptions.RayError):
            ray.kill(actor.handle)  # it may only be out of reach
        self._clean_up_after(actor)
        self.failed_starts += actor.facts is None
        if self.failed_starts < MOST_FAILED_STARTS:
            self._hire()
        self.lost.update(actor.positions)
        if len(actor.positions) == 1:
            self.tries[actor.positions[0]] += _is_alive(actor)
        for position in actor.positions:
            if self.tries[position] < MOST_TRIES:
                waiting.append(position)
            else:
                yield position, self._fatal(position)

    def _fatal(self, position: int) -> Row:
        item = self.items[position]
        error = DeviceError(
            f"Cannot restore {item.source}: the process that worked on it died {MOST_TRIES} times.",
            hint="If memory is short give --tile 256 or fewer --actors; else report the picture.",
        )
        return failed(item, error)

    def _with_note(self, position: int, row: Row) -> Row:
        if not self.tries[position] or row.error:
            return row
        note = "a worker died on it; done again with half of the memory"
        return replace(row, notes=(*row.notes, note))

    def _give_up(self, waiting: deque[int]) -> Iterator[tuple[int, Row]]:
        while waiting:
            position = waiting.popleft()
            item = self.items[position]
            error = DeviceError(
                f"Cannot restore {item.source}: no worker is left.",
                hint="When nodes are back, go on with --resume.",
            )
            yield position, failed(item, error)

    def _clean_up_after(self, actor: Actor) -> None:
        if actor.facts is not None:
            for folder in {self.items[position].target.parent for position in actor.positions}:
                remove_partials(folder, actor.facts.host, actor.facts.process_id)


def _is_alive(actor: Actor) -> bool:
    """Whether the node of ``actor`` is."""
    import ray

    node_id = actor.facts.node_id if actor.facts else ""
    return any(node["Alive"] for node in ray.nodes() if node["NodeID"] == node_id)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
