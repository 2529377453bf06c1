"""The actors of a run: work is handed out, and done again when a worker dies."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from restorecli.atomic import remove_partials
from restorecli.distributed.probes import Probes
from restorecli.distributed.worker import Facts, Setup, Worker
from restorecli.errors import DeviceError, RestoreError
from restorecli.inputs import Item
from restorecli.report import Row
from restorecli.running import failed

MOST_TRIES = 2  # of a picture whose worker dies
MOST_FAILED_STARTS = 3  # of actors, without one in between that came up
START_S = 300  # for actors to come up
END_S = 10  # for killed actors to be gone


@dataclass(slots=True, kw_only=True)
class Actor:
    """A Ray actor and what it does: one picture at a time, so that a death tells which one."""

    handle: Any
    answer: Any  # what comes next: its facts, then a row; ``None`` when it is idle
    facts: Facts | None = None  # ``None`` while it starts
    position: int | None = None  # of its picture


class Crew:
    """Actors that restore ``items``. A context manager: they end with the block.

    A picture whose worker dies on a node that lives is tried once more, with half of the memory;
    after that it is the picture's own failure. When a node dies, its pictures are simply done
    again: that says nothing of them.
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
                    if actor.position is None:
                        self._started(actor)
                    else:
                        row = ray.get(actor.answer)
                        position, actor.answer, actor.position = actor.position, None, None
                        yield position, self._with_note(position, row)
                except (ray.exceptions.RayActorError, RestoreError):  # a late start may fail so
                    yield from self._lost(actor, waiting)

    def _is_busy(self) -> bool:
        return any(actor.position is not None for actor in self.actors)

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
        """A picture for each idle actor."""
        for actor in self.actors:
            if waiting and actor.answer is None:
                actor.position = position = waiting.popleft()
                actor.answer = actor.handle.restore.remote(
                    self.items[position],
                    again=position in self.lost,
                    tighter=self.tries[position] > 0,
                )

    def _lost(self, actor: Actor, waiting: deque[int]) -> Iterator[tuple[int, Row]]:
        """Another actor takes the place of one that died, and its picture is done again."""
        import ray

        self.actors.remove(actor)
        with suppress(ray.exceptions.RayError):
            ray.kill(actor.handle)  # it may only be out of reach
        self._clean_up_after(actor)
        self.failed_starts += actor.facts is None
        if self.failed_starts < MOST_FAILED_STARTS:
            self._hire()
        if actor.position is None:
            return
        self.lost.add(actor.position)
        self.tries[actor.position] += _is_alive(actor)
        if self.tries[actor.position] < MOST_TRIES:
            waiting.append(actor.position)
        else:
            yield actor.position, self._fatal(actor.position)

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
        if actor.facts is not None and actor.position is not None:
            folder = self.items[actor.position].target.parent
            remove_partials(folder, actor.facts.host, actor.facts.process_id)


def _is_alive(actor: Actor) -> bool:
    """Whether the node of ``actor`` is."""
    import ray

    node_id = actor.facts.node_id if actor.facts else ""
    return any(node["Alive"] for node in ray.nodes() if node["NodeID"] == node_id)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
