"""How fast a network is on this machine, and what memory it needs: a process for each."""

from __future__ import annotations

import logging
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from restorecli.engine.devices import peak_bytes
from restorecli.engine.engine import prepare
from restorecli.engine.settings import EngineSettings
from restorecli.errors import RestoreError
from restorecli.machine.log import say_why
from restorecli.weights import ChosenModel, WeightEntry, registry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What to measure."""

    model_id: str
    size: tuple[int, int]  # (height, width) in pixels
    device: str
    precision: str
    max_bytes: int | None
    repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one trial took; the peak is that of its whole process, or of a CUDA device."""

    model_id: str
    device: str
    precision: str
    height_px: int
    width_px: int
    elapsed_s: float  # median
    s_per_megapixel: float
    predicted_memory_bytes: int
    peak_memory_bytes: int
    exact: bool
    strip_rows: int
    tile_px: int | None


def installed() -> list[WeightEntry]:
    """Networks whose file is on this machine."""
    return [entry for entry in registry().values() if entry.is_installed]


def measure(trial: Trial, way: Callable[[Trial], Measured] | None = None) -> Measured:
    """Run ``trial`` in a process of its own, so that its peak of memory is its own.

    ``way`` times it there, by default as a network from picture to picture.

    Raises what the trial raises, and ``RestoreError`` when its process is ended from outside.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_answer, args=(there, trial, way or measured), daemon=True)
    process.start()
    there.close()  # so that a process that dies ends the wait
    try:
        reasons: list[str]
        answer: Measured | RestoreError
        reasons, answer = here.recv()
    except EOFError:
        raise RestoreError(
            f"The measurement of {trial.model_id} ended early, perhaps for want of memory.",
            hint="Try a smaller --size, or --max-memory.",
        ) from None
    finally:
        process.join()
    for reason in dict.fromkeys(reasons):  # a repeated run repeats them
        log.info("%s", reason)
    if isinstance(answer, RestoreError):
        raise answer
    return answer


def _answer(pipe: Connection, trial: Trial, way: Callable[[Trial], Measured]) -> None:
    reasons: list[str] = []
    say_why(reasons.append)
    answer: Measured | RestoreError
    try:
        answer = way(trial)
    except RestoreError as error:
        answer = error
    pipe.send((reasons, answer))


def measured(trial: Trial) -> Measured:
    """Time ``trial`` here; a first small picture sets up what libraries set up once."""
    entry = registry()[trial.model_id]
    settings = EngineSettings(
        model=ChosenModel(entry=entry),
        device=trial.device,
        precision=trial.precision,
        max_bytes=trial.max_bytes,
    )
    engine = prepare(settings)
    height, width = trial.size
    gray = engine.model.channels == 1
    engine.restore(made_up_picture(64, 64, gray=gray))
    pixels = made_up_picture(height, width, gray=gray)
    seconds = []
    for _ in range(trial.repeats):
        start = time.perf_counter()
        _, plan = engine.restore(pixels)
        seconds.append(time.perf_counter() - start)
    return Measured(
        model_id=trial.model_id,
        device=str(engine.device),
        precision=engine.precision_name,
        height_px=height,
        width_px=width,
        elapsed_s=statistics.median(seconds),
        s_per_megapixel=statistics.median(seconds) / (height * width / 1e6),
        predicted_memory_bytes=plan.predicted_bytes,
        peak_memory_bytes=peak_bytes(engine.device),
        exact=plan.exact,
        strip_rows=plan.strip_rows,
        tile_px=plan.tile_px,
    )


def made_up_picture(height: int, width: int, *, gray: bool) -> NDArray[np.uint8]:
    """Gradients with noise, the same every time: uint8 (H, W, 3), or (H, W) if ``gray``."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, width, dtype=np.uint8)
    shape = (height, width) if gray else (height, width, 3)
    noise = rng.integers(0, 56, shape, dtype=np.uint8)
    return noise + (ramp if gray else ramp[:, None])
