"""A network for spectra on a device, and one picture or measurement at a time through it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restorecli.engine.devices import choose_device, free_bytes, held_bytes
from restorecli.engine.why import device_text
from restorecli.errors import DeviceError, InputError, RestoreError, UsageError, WeightsError
from restorecli.images.photo import WHITE, Pixels
from restorecli.machine.allocator import give_back_large_blocks
from restorecli.networks.mst import SIDE_MULTIPLE_PX, MSTCassi, MSTPlusPlus, cassi_input
from restorecli.networks.regression import RootPolynomial
from restorecli.networks.strips.spectral import plane_bytes, reconstructed_rows
from restorecli.spectral.cubes import KNOWN_NM
from restorecli.spectral.observer import srgb_decoded
from restorecli.weights import registry
from restorecli.weights.checkpoint import LoadedSpectralModel, load_spectral_model

DEFAULT_BYTES = 2_000_000_000  # what the process may hold unless --max-memory says otherwise
MEMORY_SHARE = 0.7  # of what is free, if that is less
STRIP_PIXELS = (2**17, 2**16, 2**15)  # the first that fits: lower strips cost time
AROUND_BYTES = 200_000_000  # what libraries and the heap's holes take while they work
log = logging.getLogger(__name__)
STRIP_PLANES = 20  # planes of all features of one strip alive at once
LOWER_LEVELS = 0.75  # of the size of level 0: levels 1 and 2, which are always kept
BYTES = 4  # of one value
LARGEST_SHARE = 1.01  # of light through a mask, which is measured and may lie a little above 1
SRGB, LINEAR = "srgb", "linear"


Strips = Iterator[tuple[int, NDArray[np.float32]]]  # first row, and (bands, r, W), from the top


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralPlan:
    """How a cube of some size fits into memory."""

    strip_rows: int
    keep_bytes: int  # of features of level 0, which are made anew where they do not fit
    predicted_bytes: int  # that the process will hold in all


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralEngine:
    """A network on a device, ready to make cubes."""

    model: LoadedSpectralModel
    device: torch.device
    encoding: str  # of the pictures: srgb or linear
    stretched: bool  # a picture's smallest value becomes 0 and its largest 1
    max_bytes: int | None = None  # that the process may hold in all

    @property
    def wavelengths_nm(self) -> tuple[float, ...]:
        """Centres of the bands."""
        return KNOWN_NM[self.band_count]

    @property
    def band_count(self) -> int:
        """How many bands the network makes."""
        network = self.model.network
        if isinstance(network, RootPolynomial):
            return int(network.weight.shape[0])
        layer = network.conv_out if isinstance(network, MSTPlusPlus) else network.mapping
        return layer.out_channels

    def of_photo(self, pixels: Pixels) -> Strips:
        """Bands of an RGB picture, from the top.

        Shape:
            pixels: (H, W, 3), uint8, uint16 or float32 in [0, 1] → first row and (bands, r, W),
            not clamped.

        Raises:
            DeviceError: It does not fit into memory.
        """
        height, width = pixels.shape[:2]
        light = LightReader(pixels, self.encoding, stretched=self.stretched)
        return self._rows(light.rows, (height, width), None)

    def of_measurement(self, measurement: NDArray[np.float32], mask: NDArray[np.float32]) -> Strips:
        """Bands of what a snapshot camera measured, (H, W + 54), through its mask (H, W)."""
        plane = torch.from_numpy(measurement)

        def rows(top: int, bottom: int) -> Tensor:
            return cassi_input(plane[None, top:bottom], self.band_count)[0]

        height, width = mask.shape
        return self._rows(rows, (height, width), torch.from_numpy(mask).to(self.device))

    def _rows(
        self, read: Callable[[int, int], Tensor], size: tuple[int, int], mask: Tensor | None
    ) -> Strips:
        plan = self.plan(size)
        log.info(
            "%d×%d pixels: strips of %d rows; %.0f MB are left to keep what is needed twice.",
            *(size[1], size[0], plan.strip_rows, plan.keep_bytes / 1e6),
        )
        strips = reconstructed_rows(
            self.model.network,
            read,
            size,
            strip_rows=plan.strip_rows,
            dtype=torch.float32,
            keep_bytes=plan.keep_bytes,
            mask=mask,
        )
        for top, rows in strips:
            if not bool(torch.isfinite(rows).all()):
                raise RestoreError("The network gave values that are not finite numbers.")
            yield top, rows.cpu().numpy()

    def plan(self, size: tuple[int, int]) -> SpectralPlan:
        """Rows of a strip, how many bytes of features of level 0 may be kept, and the peak.

        Raises:
            DeviceError: Not even the levels below and a strip fit.
        """
        network, held = self.model.network, held_bytes(self.device)
        if isinstance(network, RootPolynomial):
            rows = _strip_rows(size, STRIP_PIXELS[0])
            return SpectralPlan(strip_rows=rows, keep_bytes=0, predicted_bytes=held)
        height, width = size
        plane = plane_bytes(network, height, width, bytes_per_value=BYTES)
        free = MEMORY_SHARE * free_bytes(self.device)
        left = min(free, (self.max_bytes or DEFAULT_BYTES) - held)
        for pixels in STRIP_PIXELS:
            strip_rows = _strip_rows(size, pixels)
            strip = STRIP_PLANES * plane * strip_rows // height
            least = int(LOWER_LEVELS * plane) + strip + AROUND_BYTES
            if least <= left:
                break
        if least > left and (self.max_bytes is not None or least > free):
            raise DeviceError(
                f"{width}×{height} pixels need {least / 1e9:.1f} GB more memory; "
                f"{max(left, 0) / 1e9:.1f} GB are left.",
                hint="Give more with --max-memory, or a smaller picture.",
            )
        keep = max(int(left) - least, 0)
        kept = max(times * plane for times in (0, 1, 2) if times * plane <= keep)
        return SpectralPlan(
            strip_rows=strip_rows, keep_bytes=keep, predicted_bytes=held + least + kept
        )


def _strip_rows(size: tuple[int, int], pixels: int) -> int:
    height, width = size
    return min(max(pixels // width, 8), height)


class LightReader:
    """Rows of a picture as a network for spectra wants them: linear light in [0, 1].

    Integers go through a table of all their values.
    """

    def __init__(self, pixels: Pixels, encoding: str, *, stretched: bool) -> None:
        self.pixels = pixels
        self.encoding = encoding
        self.low, self.span = 0.0, 1.0
        self.table: NDArray[np.float32] | None = None
        white = WHITE[pixels.dtype]
        if pixels.dtype != np.float32:
            values = np.arange(white + 1) / white
            self.table = self._linear(values).astype(np.float32)
        if stretched:
            low, high = (
                self._light(np.asarray(v)[None]).item() for v in (pixels.min(), pixels.max())
            )
            self.low, self.span = low, max(high - low, 1e-6)

    def _linear(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        return srgb_decoded(values.clip(0, 1)) if self.encoding == SRGB else values

    def _light(self, pixels: Pixels) -> NDArray[np.floating]:
        return self._linear(pixels) if self.table is None else self.table[pixels]

    def rows(self, top: int, bottom: int) -> Tensor:
        """Rows of the picture: (3, bottom − top, W), float32."""
        light = (self._light(self.pixels[top:bottom]) - self.low) / self.span
        planes = np.ascontiguousarray(light.transpose(2, 0, 1), dtype=np.float32)
        return torch.from_numpy(planes)


def check_photo(name: str, pixels: Pixels, alpha: Pixels | None) -> None:
    """Refuse what is no picture of three colours; ``InputError`` says what it is."""
    if pixels.ndim == 2:
        raise InputError(f"{name} is gray: a spectrum needs red, green and blue.")
    if alpha is not None:
        raise InputError(
            f"{name} has an alpha channel; what shines through has no spectrum.",
            hint="Save it without transparency.",
        )


def check_mask(name: str, mask: NDArray[np.float32]) -> None:
    """Refuse what lets nothing through, or more than there is; ``InputError`` says the values."""
    low, high = float(mask.min()), float(mask.max())
    if low < 0 or high > LARGEST_SHARE or high <= 0:
        raise InputError(
            f"The mask {name} has values from {low:g} to {high:g}; expected shares from 0 to 1.",
            hint="Divide it by the value that lets all light through.",
        )


def check_measurement(
    name: str, measurement: NDArray[np.float32], mask: NDArray[np.float32], bands: int
) -> None:
    """Refuse sizes that do not belong together; ``InputError`` names both."""
    height, width = mask.shape
    expected = height, width + 2 * (bands - 1)
    if measurement.shape != expected:
        raise InputError(
            f"{name} is {measurement.shape[1]}×{measurement.shape[0]}; a mask of {width}×{height} "
            f"and {bands} bands give {expected[1]}×{expected[0]}.",
            hint="Give the mask that it was taken with.",
        )
    if height % SIDE_MULTIPLE_PX or width % SIDE_MULTIPLE_PX:
        raise InputError(
            f"The mask is {width}×{height}; both sides must divide by {SIDE_MULTIPLE_PX}."
        )


def prepare(
    *,
    cassi: bool,
    model_id: str | None,
    weights: Path | None,
    device: str,
    encoding: str | None,
    max_bytes: int | None,
    threads: int | None,
) -> SpectralEngine:
    """Load a network and check everything that does not depend on a picture.

    Raises:
        WeightsError: No such network, or one for the other task.
        UsageError, DeviceError: As their sentences say.
    """
    if threads:
        torch.set_num_threads(threads)
    give_back_large_blocks()
    task = "cassi" if cassi else "spectral"
    known = registry()
    entry = known[model_id] if model_id else None if weights else known.default(task)
    if entry is not None and task not in entry.tasks:
        raise UsageError(
            f"{entry.id} is for {', '.join(entry.tasks)}, not for {task}.",
            hint="Measurements of a CASSI need --mask; photographs go without.",
        )
    model = load_spectral_model(entry, weights)
    if isinstance(model.network, MSTCassi) != cassi:
        what = "measurements, with --mask" if not cassi else "photographs, without --mask"
        raise UsageError(f"{model.id} is for {what}.")
    chosen = choose_device(device)
    log.info("Network %s.", model.id)
    log.info("%s", device_text(device, chosen))
    model.network.to(chosen)
    engine = SpectralEngine(
        model=model,
        device=chosen,
        encoding=encoding or (entry.encoding if entry and entry.encoding else SRGB),
        stretched=bool(entry and entry.stretched),
        max_bytes=max_bytes,
    )
    if engine.band_count not in KNOWN_NM:
        raise WeightsError(
            f"{model.id} makes {engine.band_count} bands; their centres are unknown."
        )
    return engine
