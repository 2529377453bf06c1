"""A network on a device, and one picture at a time through it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from restorecli.engine import direction, ensemble, why
from restorecli.engine.devices import (
    choose_device,
    choose_precision,
    free_bytes,
    held_bytes,
    multiplies_bfloat16,
)
from restorecli.engine.plan import (
    MEMORY_SHARE,
    Demand,
    Memory,
    Plan,
    make_plan,
    smaller_plan,
)
from restorecli.engine.settings import EngineSettings
from restorecli.engine.tiling import tile_slices, tiled_rows
from restorecli.errors import DeviceError, InputError, RestoreError, WeightsError
from restorecli.images import Photo
from restorecli.images.photo import WHITE, Pixels
from restorecli.images.tensors import as_gray, to_pixels, to_tensor
from restorecli.limits import AUTO
from restorecli.machine.allocator import give_back_freed_memory, keep_freed_memory
from restorecli.machine.cores import default_threads, threads_are_given
from restorecli.machine.load import WATCH
from restorecli.networks.strips import Room, kernels, picture_gain, restored_rows
from restorecli.weights import PublishedSetting
from restorecli.weights.checkpoint import LoadedModel, load_model

log = logging.getLogger(__name__)
CONSTANT_RANGE = 0.5 / 255  # of [0, 1]: less than this is one value of 8 bits
PICTURE_RANGE = 16 / 255  # more than this is no empty frame that a network may smooth away
ImageProgress = Callable[[float], None]  # share of one image that was just done


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A network on a device, ready to restore any number of images."""

    model: LoadedModel
    device: torch.device
    precision: torch.dtype
    tile: int | None  # pixels, ``None`` whole image, or options.AUTO
    overlap_px: int
    max_bytes: int | None = None  # that the process, or a CUDA device, may hold in all
    published: PublishedSetting | None = None  # that the other fields follow
    strength: float = 1.0  # of the change: 0 gives the picture back
    ensemble: bool = False  # the mean over ways to flip and turn the picture
    yields: bool = False  # to other processes: fewer threads where they use the cores
    whole: Pixels | None = None  # of which only a part is restored: its tone and its way up count

    @property
    def precision_name(self) -> str:
        """As in ``--precision``."""
        names = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
        return names[self.precision]

    def restore(
        self,
        pixels: Pixels,
        on_progress: ImageProgress = lambda share: None,
        *,
        dtype: DTypeLike | None = None,
        plan: Plan | None = None,
    ) -> tuple[Pixels, Plan]:
        """Restore RGB (H, W, 3) or gray (H, W) → the same shape, and the plan that was used.

        Values are uint8, uint16 or float32, and stay so unless ``dtype`` says otherwise; the
        network sees float32. Without ``plan`` it is that of now. Out of memory lowers the strips,
        then halves an automatic tile until it fits; an explicit one is never changed. Raises
        ``DeviceError`` when nothing fits, ``RestoreError`` when the output is not finite, or has
        become one colour.
        """
        if self.model.channels == 1 and pixels.ndim == 3:
            raise InputError(
                f"{self.model.id} restores gray pictures, this one is RGB.",
                hint="Choose another --model.",
            )
        kind = np.dtype(dtype or pixels.dtype)
        if self.strength == 0:
            plan = plan or self.plan((pixels.shape[0], pixels.shape[1]), kind)
            return Photo(pixels=pixels).in_depth(kind).pixels.copy(), plan
        if self.model.turns and self._is_better_turned(pixels):
            log.info("Turned by 90°: the network takes away clearly more that way.")
            sideways = np.rot90(pixels)
            plan = self.plan((sideways.shape[0], sideways.shape[1]), kind)
            restored, plan = self._restored(sideways, kind, plan, on_progress)
            return np.ascontiguousarray(np.rot90(restored, -1)), plan
        plan = plan or self.plan((pixels.shape[0], pixels.shape[1]), kind)
        return self._restored(pixels, kind, plan, on_progress)

    def _is_better_turned(self, pixels: Pixels) -> bool:
        seen = pixels if self.whole is None else self.whole
        return direction.is_better_turned(seen, self._change)

    def _restored(
        self, pixels: Pixels, kind: np.dtype[Any], plan: Plan, on_progress: ImageProgress
    ) -> tuple[Pixels, Plan]:
        """The same the way up that the picture has; in float32 where less gave no picture."""
        try:
            return self._within_memory(pixels, kind, plan, self.precision, on_progress)
        except SpoiledError:
            if self.precision == torch.float32:
                raise
            log.info("Once more in float32: %s gave no picture.", self.precision_name)
        return self._within_memory(pixels, kind, plan, torch.float32, on_progress)

    def _change(self, crop: Pixels) -> float:
        """Sum of what the network takes away from a crop or adds to it."""
        plan = self.plan((crop.shape[0], crop.shape[1]), crop.dtype)
        before = to_tensor(crop, self.model.channels)[0]
        change = 0.0
        for start, rows in self._rows(crop, plan, self.precision, lambda share: None):
            was = before[:, start : start + rows.shape[1]]
            change += float((rows.cpu().float() - was).abs().sum())
        return change

    def plan(self, size: tuple[int, int], dtype: DTypeLike, *, beside_bytes: int = 0) -> Plan:
        """How a picture of ``size`` (height, width) would be restored to ``dtype`` now.

        ``beside_bytes`` will be held meanwhile, beside what is held now. Raises ``DeviceError``
        when it does not fit into ``max_bytes``.
        """
        give_back_freed_memory()
        memory = Memory(
            available_bytes=free_bytes(self.device),
            held_bytes=held_bytes(self.device),
            max_bytes=self.max_bytes,
        )
        demand = self._demand(size, np.dtype(dtype), self.precision)
        demand = replace(demand, beside_bytes=beside_bytes)
        return make_plan(demand, memory, tile=self.tile, overlap_px=self.overlap_px)

    def _demand(
        self, size: tuple[int, int], dtype: np.dtype[Any], precision: torch.dtype
    ) -> Demand:
        return Demand(
            network=self.model.network,
            size=size,
            bytes_per_value=precision.itemsize,
            bytes_per_result=dtype.itemsize,
            ensemble=self.ensemble,
            on_gpu=self.device.type == "cuda",
            threads=torch.get_num_threads() if self.device.type == "cpu" else 1,
        )

    def room_bytes(self, plan: Plan) -> int:
        """Memory of the computer that other work may take while ``plan`` is carried out."""
        if self.device.type == "cuda":
            return int(MEMORY_SHARE * free_bytes(torch.device("cpu")))
        return plan.spare_bytes

    def _within_memory(
        self,
        pixels: Pixels,
        dtype: np.dtype[Any],
        plan: Plan,
        precision: torch.dtype,
        on_progress: ImageProgress,
    ) -> tuple[Pixels, Plan]:
        """Run ``plan``, or a smaller one when memory runs out."""
        height, width = pixels.shape[:2]
        if plan.why:
            log.info("%s", plan.why)
        while True:
            try:
                return self._run(pixels, dtype, plan, precision, on_progress), plan
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                demand = self._demand((height, width), dtype, precision)
                smaller = smaller_plan(demand, plan, may_tile=self.tile == AUTO)
                if smaller is None:
                    where = f"a tile of {plan.tile_px} px" if plan.tile_px else "the whole image"
                    raise DeviceError(
                        f"Out of memory on {self.device} with {where} ({width}×{height} pixels).",
                        hint="Give a smaller --tile, such as 256, or --tile auto.",
                    ) from error
                log.info(
                    "Memory ran out: on with %s, in strips of %d rows.",
                    f"tiles of {smaller.tile_px} px" if smaller.tile_px else "the whole picture",
                    smaller.strip_rows,
                )
                plan = smaller

    def _run(
        self,
        pixels: Pixels,
        dtype: np.dtype[Any],
        plan: Plan,
        precision: torch.dtype,
        on_progress: ImageProgress,
    ) -> Pixels:
        """Only a few rows at a time are float32: they are read from ``pixels`` and rounded back."""
        gray = pixels.ndim == 2
        restored = np.empty(pixels.shape, dtype)
        low, high = 1.0, 0.0

        def finite(part: Pixels, progress: ImageProgress) -> Iterator[tuple[int, Tensor]]:
            for start, rows in self._rows(part, plan, precision, progress):
                if not bool(torch.isfinite(rows).all()):
                    raise self._spoiled("values that are not finite")
                yield start, rows

        if self.ensemble:
            ways = ensemble.MIRRORED if self.model.turns else ensemble.WAYS
            coming = ensemble.mean_rows(finite, pixels, on_progress, ways)
        else:
            coming = finite(pixels, on_progress)
        for start, rows in coming:
            least, most = rows.clamp(0, 1).aminmax()
            low, high = min(low, float(least)), max(high, float(most))
            band = slice(start, start + rows.shape[1])
            rows = self._blended(rows, pixels[band])
            restored[band] = to_pixels(rows[None], gray=gray, dtype=dtype)
        before = (float(pixels.max()) - float(pixels.min())) / WHITE[pixels.dtype]
        if high - low < CONSTANT_RANGE and before > PICTURE_RANGE:
            raise self._spoiled("one constant colour of the whole picture")
        return restored

    def _blended(self, rows: Tensor, before: Pixels) -> Tensor:
        """Restored rows (C, r, W) mixed with what they were, in the encoding of the file."""
        if self.strength == 1:
            return rows
        rows = as_gray(rows) if before.ndim == 2 else rows
        was = to_tensor(before, len(rows))[0].to(rows.device)
        return torch.lerp(was, rows.float().clamp(0, 1), self.strength)

    def _spoiled(self, what: str) -> SpoiledError:
        return SpoiledError(
            f"{self.model.id} made {what}, so nothing was written.",
            hint="Choose another --model, and report the picture.",
        )

    def _rows(
        self,
        pixels: Pixels,
        plan: Plan,
        precision: torch.dtype,
        on_progress: ImageProgress,
    ) -> Iterator[tuple[int, Tensor]]:
        """Restored rows from the top: the first one's number, and float (C, r, W)."""

        def read(part: Pixels) -> Callable[[int, int], Tensor]:
            return lambda top, bottom: to_tensor(part[top:bottom], self.model.channels)[0]

        size = (pixels.shape[0], pixels.shape[1])
        seen = pixels if self.whole is None else self.whole
        gain = picture_gain(self.model.network, read(seen), (seen.shape[0], seen.shape[1]))

        def strips(part: Pixels, progress: ImageProgress) -> Iterator[tuple[int, Tensor]]:
            return restored_rows(
                self.model.network,
                read(part),
                (part.shape[0], part.shape[1]),
                gain=gain,
                strip_rows=plan.strip_rows,
                room=Room(plan.keep_bytes, self._workers(plan, precision)),
                dtype=precision,
                on_progress=progress,
            )

        if plan.tile_px is None:
            return strips(pixels, on_progress)
        sides = [tile_slices(length, plan.tile_px, plan.overlap_px) for length in size]
        tiles = len(sides[0]) * len(sides[1])

        def tile(rows: slice, columns: slice) -> Tensor:
            give_back_freed_memory()  # the last tile's holes do not fit this one's features
            parts = strips(pixels[rows, columns], lambda share: on_progress(share / tiles))
            return torch.cat([part.cpu() for _, part in parts], 1)  # (C, h, w)

        return tiled_rows(
            tile,
            size,
            tile_px=plan.tile_px,
            overlap_px=plan.overlap_px,
            ramp_px=0 if self.published else None,  # the authors average
        )

    def _workers(self, plan: Plan, precision: torch.dtype) -> int:
        """Threads of ``plan`` for which others leave a core: those that share one are waited for.

        In float32 their number decides on the last bits, and other processes must not.
        """
        if not self.yields or precision != torch.bfloat16:
            return plan.workers
        free = min(WATCH.free_cores(), plan.workers)
        workers = max(1, round(free))
        if workers < plan.workers:
            log.debug("Threads %d: other processes leave %.1f cores.", workers, free)
        return workers


class SpoiledError(RestoreError):
    """A network gave what cannot be a picture."""


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA and MPS have a class for it, the CPU allocator only a sentence."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error)


def prepare(settings: EngineSettings) -> Engine:
    """Load the network that ``settings`` name, and put it on the device.

    Raises ``WeightsError``, ``DeviceError`` or ``UsageError``; nothing has been written then.
    """
    tile, overlap_px, precision = settings.tile, settings.overlap_px, settings.precision
    if published := settings.published:
        tile, overlap_px, precision = published.tile_px, published.overlap_px, "fp32"
    keep_freed_memory()
    WATCH.begin()
    torch.set_num_threads(settings.threads or default_threads(torch.get_num_threads()))
    chosen_device = choose_device(settings.device)
    entry = settings.model.entry
    is_close = bool(entry and entry.is_close_in_bfloat16 and settings.model.file is None)
    dtype = choose_precision(precision, chosen_device, half_is_close=is_close)
    _say_why(settings, precision, chosen_device, is_close=is_close)
    kernels.make_ready(chosen_device, dtype)
    model = load_model(settings.model.entry, settings.model.file)
    if model.channels not in {1, 3}:
        raise WeightsError(
            f"{model.id} needs {model.channels // 3} views of one scene, "
            "which the command line cannot give it.",
            hint="Choose another --model.",
        )
    network = model.network.to(chosen_device)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    return Engine(
        model=replace(model, network=network),
        device=chosen_device,
        precision=dtype,
        tile=tile,
        overlap_px=overlap_px,
        max_bytes=settings.max_bytes,
        published=published,
        strength=settings.strength,
        ensemble=settings.ensemble,
        yields=not threads_are_given(settings.threads),
    )


def _say_why(
    settings: EngineSettings, precision: str, device: torch.device, *, is_close: bool
) -> None:
    entry = settings.model.entry
    if settings.published:
        log.info("As the authors test: %s.", settings.published.text)
    log.info("Network %s%s.", settings.model.id, f", {entry.network}" if entry else "")
    log.info("%s", why.device_text(settings.device, device))
    fast = multiplies_bfloat16(device)
    log.info("%s", why.precision_text(precision, device, fast=fast, is_close=is_close))
    log.info("%s", why.threads_text(settings.threads, torch.get_num_threads()))


def restore_photo(
    engine: Engine,
    photo: Photo,
    on_progress: ImageProgress = lambda share: None,
    *,
    dtype: DTypeLike | None = None,
    plan: Plan | None = None,
) -> tuple[Photo, Plan]:
    """Restore the pixels of ``photo``; alpha and metadata are carried."""
    pixels, plan = engine.restore(photo.filled(), on_progress, dtype=dtype, plan=plan)
    return photo.with_pixels(pixels), plan
