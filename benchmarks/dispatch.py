"""What does it cost to hand out a path? ``python -m benchmarks.dispatch`` (needs ray[data]).

Two actors that do nothing get paths one by one, as `restorecli.runs.ray` does it, and through
Ray Data in blocks of several sizes. Ray Data starts its actors within its time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from typing import Any

import ray
import ray.data

from restorecli.runs.job import Pool
from restorecli.runs.ray.connection import cluster

ACTORS = 2


class Nothing:
    """Does nothing with a path."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as it came."""
        return row


def one_by_one(paths: list[str]) -> Iterator[Any]:
    """Answers of actors that have one path at a time."""
    recipe = ray.remote(num_cpus=1)(Nothing)
    actors = [recipe.remote() for _ in range(ACTORS)]
    ray.get([actor.__call__.remote({"path": ""}) for actor in actors])
    waiting = iter(paths)
    answers = {actor.__call__.remote({"path": next(waiting)}): actor for actor in actors}
    while answers:
        (ready,), _ = ray.wait(list(answers))
        actor = answers.pop(ready)
        yield ray.get(ready)
        if (path := next(waiting, None)) is not None:
            answers[actor.__call__.remote({"path": path})] = actor
    for actor in actors:
        ray.kill(actor)


def in_blocks(paths: list[str], size: int | None) -> Iterator[Any]:
    """Rows of Ray Data; ``None`` leaves the size of blocks to it."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    blocks = len(paths) // size if size else None
    data = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=blocks)
    pool = ray.data.ActorPoolStrategy(size=ACTORS)
    yield from data.map(Nothing, compute=pool, num_cpus=1).iter_rows()


def measure(what: str, answers: Iterable[Any], count: int) -> None:
    """Print the time of an answer, and that of the first one."""
    begun = time.perf_counter()
    times = [time.perf_counter() - begun for _ in answers]
    assert len(times) == count
    print(f"{what:>24}: {times[-1] / count * 1e3:6.2f} ms a path, the first after {times[0]:.2f} s")


def main() -> None:
    """Run every way once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paths", type=int, default=1000)
    count = parser.parse_args().paths
    paths = [f"/data/in/{i:09}.png" for i in range(count)]
    with cluster(Pool(actors=ACTORS)):
        measure("one by one", one_by_one(paths), count)
        for size in (1, 16, None):
            blocks = f"blocks of {size}" if size else "blocks as it likes"
            measure(f"Ray Data, {blocks}", in_blocks(paths, size), count)


if __name__ == "__main__":
    main()
