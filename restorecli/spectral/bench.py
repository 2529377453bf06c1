"""How fast a network for spectra is on this machine: all of a cube's rows, which nobody keeps."""

from __future__ import annotations

import statistics
import time

import numpy as np
from numpy.typing import NDArray

from restorecli.engine.bench import Measured, Trial, made_up_picture
from restorecli.engine.devices import peak_bytes
from restorecli.errors import UsageError
from restorecli.networks.mst import MSTCassi
from restorecli.networks.mst_attention import BAND_STEP_PX
from restorecli.spectral.model import SpectralEngine, Strips, check_measurement, prepare
from restorecli.weights import registry

WARM_UP_PX = 64


def measured(trial: Trial) -> Measured:
    """Time ``trial`` here; a first small picture sets up what libraries set up once.

    Raises:
        UsageError: A precision other than float32, or sides that a CASSI does not have.
    """
    if trial.precision not in {"auto", "fp32"}:
        raise UsageError(
            f"{trial.model_id} makes spectra in fp32 only, not in {trial.precision}.",
            hint="Leave --precision out.",
        )
    engine = prepare(
        cassi="cassi" in registry()[trial.model_id].tasks,
        model_id=trial.model_id,
        weights=None,
        device=trial.device,
        encoding=None,
        max_bytes=trial.max_bytes,
        threads=None,
    )
    for _ in made_up_cube(engine, (WARM_UP_PX, WARM_UP_PX)):
        pass
    height, width = trial.size
    seconds = []
    for _ in range(trial.repeats):
        strips = made_up_cube(engine, trial.size)
        start = time.perf_counter()
        rows = sum(bands.shape[1] for _, bands in strips)
        seconds.append(time.perf_counter() - start)
        assert rows == height
    plan = engine.plan(trial.size)
    return Measured(
        model_id=trial.model_id,
        device=str(engine.device),
        precision="fp32",
        height_px=height,
        width_px=width,
        elapsed_s=statistics.median(seconds),
        s_per_megapixel=statistics.median(seconds) / (height * width / 1e6),
        predicted_memory_bytes=plan.predicted_bytes,
        peak_memory_bytes=peak_bytes(engine.device),
        exact=True,
        strip_rows=plan.strip_rows,
        tile_px=None,
    )


def made_up_cube(engine: SpectralEngine, size: tuple[int, int]) -> Strips:
    """The cube of a picture or of a measurement that does not exist."""
    height, width = size
    if not isinstance(engine.model.network, MSTCassi):
        return engine.of_photo(made_up_picture(height, width, gray=False))
    mask = _gray(height, width)
    columns = width + BAND_STEP_PX * (engine.band_count - 1)
    measurement = _gray(height, columns)
    check_measurement("The measurement", measurement, mask, engine.band_count)
    return engine.of_measurement(measurement, mask)


def _gray(height: int, width: int) -> NDArray[np.float32]:
    values: NDArray[np.float32] = made_up_picture(height, width, gray=True).astype(np.float32)
    return np.divide(values, 255, dtype=np.float32)
