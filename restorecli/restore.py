"""The use case: a job in, results out. One image, a list, or a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from restorecli.allocator import give_back_freed_memory, keep_freed_memory
from restorecli.errors import DeviceError, InputError, RestoreError, WeightsError
from restorecli.images import FileOptions, Photo
from restorecli.images.photo import WHITE, Pixels
from restorecli.images.tensors import to_pixels, to_tensor
from restorecli.inputs import Item, Selection
from restorecli.manifest import Ledger
from restorecli.networks.strips import restored_rows
from restorecli.options import AUTO
from restorecli.plan import (
    Plan,
    choose_device,
    choose_precision,
    free_bytes,
    held_bytes,
    make_plan,
    peak_bytes,
    smaller_plan,
)
from restorecli.report import Report, Row
from restorecli.results import finished_meanwhile, read, write
from restorecli.running import Listener, collect, failed, settings_of, settled
from restorecli.scoring import InPass
from restorecli.tiling import tile_slices, tiled_rows
from restorecli.weights import WeightEntry, registry
from restorecli.weights.checkpoint import LoadedModel, load_model

CONSTANT_RANGE = 0.5 / 255  # of [0, 1]: less than this is one value of 8 bits
PICTURE_RANGE = 16 / 255  # more than this is no empty frame that a network may smooth away
FILES_AS_THEY_ARE = FileOptions()
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
    ) -> tuple[Pixels, Plan]:
        """Restore RGB (H, W, 3) or gray (H, W) → the same shape, and the plan that was used.

        Values are uint8, uint16 or float32, and stay so unless ``dtype`` says otherwise; the
        network sees float32. Out of memory halves an automatic tile until it fits; an explicit one
        is never changed. Raises ``DeviceError`` when nothing fits, ``RestoreError`` when the output
        is not finite, or has become one colour.
        """
        if self.model.channels == 1 and pixels.ndim == 3:
            raise InputError(
                f"{self.model.id} restores gray pictures, this one is RGB.",
                hint="Choose another --model.",
            )
        give_back_freed_memory()
        plan = make_plan(
            self.model.network,
            (pixels.shape[0], pixels.shape[1]),
            available_bytes=free_bytes(self.device),
            held_bytes=held_bytes(self.device),
            max_bytes=self.max_bytes,
            bytes_per_value=self.precision.itemsize,
            tile=self.tile,
            overlap_px=self.overlap_px,
        )
        kind = np.dtype(dtype or pixels.dtype)
        try:
            return self._within_memory(pixels, kind, plan, self.precision, on_progress)
        except SpoiledError:
            if self.precision == torch.float32:
                raise
        return self._within_memory(pixels, kind, plan, torch.float32, on_progress)

    def _within_memory(
        self,
        pixels: Pixels,
        dtype: np.dtype[Any],
        plan: Plan,
        precision: torch.dtype,
        on_progress: ImageProgress,
    ) -> tuple[Pixels, Plan]:
        """Run ``plan``; tighten an automatic one when memory runs out."""
        height, width = pixels.shape[:2]
        while True:
            try:
                return self._run(pixels, dtype, plan, precision, on_progress), plan
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                tighter = smaller_plan(plan, (height, width)) if self.may_shrink else None
                if tighter is None:
                    where = f"a tile of {plan.tile_px} px" if plan.tile_px else "the whole image"
                    raise DeviceError(
                        f"Out of memory on {self.device} with {where} ({width}×{height} pixels).",
                        hint="Give a smaller --tile, such as 256, or --tile auto.",
                    ) from error
                plan = tighter

    @property
    def may_shrink(self) -> bool:
        """Whether the tile size was left to us."""
        return self.tile == AUTO

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
        for start, rows in self._rows(pixels, plan, precision, on_progress):
            if not bool(torch.isfinite(rows).all()):
                raise self._spoiled("values that are not finite")
            least, most = rows.clamp(0, 1).aminmax()
            low, high = min(low, float(least)), max(high, float(most))
            restored[start : start + rows.shape[1]] = to_pixels(rows[None], gray=gray, dtype=dtype)
        before = (float(pixels.max()) - float(pixels.min())) / WHITE[pixels.dtype]
        if high - low < CONSTANT_RANGE and before > PICTURE_RANGE:
            raise self._spoiled("one constant colour of the whole picture")
        return restored

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

        def strips(part: Pixels, progress: ImageProgress) -> Iterator[tuple[int, Tensor]]:
            return restored_rows(
                self.model.network,
                lambda top, bottom: to_tensor(part[top:bottom], self.model.channels)[0],
                (part.shape[0], part.shape[1]),
                strip_rows=plan.strip_rows,
                dtype=precision,
                on_progress=progress,
            )

        if plan.tile_px is None:
            return strips(pixels, on_progress)
        size = (pixels.shape[0], pixels.shape[1])
        sides = [tile_slices(length, plan.tile_px, plan.overlap_px) for length in size]
        tiles = len(sides[0]) * len(sides[1])

        def tile(rows: slice, columns: slice) -> Tensor:
            give_back_freed_memory()  # the last tile's holes do not fit this one's features
            parts = strips(pixels[rows, columns], lambda share: on_progress(share / tiles))
            return torch.cat([part.cpu() for _, part in parts], 1)  # (C, h, w)

        return tiled_rows(tile, size, tile_px=plan.tile_px, overlap_px=plan.overlap_px)


class SpoiledError(RestoreError):
    """A network gave what cannot be a picture."""


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA and MPS have a class for it, the CPU allocator only a sentence."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error)


def prepare(
    task: str,
    *,
    model_id: str | None,
    weights: Path | None,
    device: str,
    precision: str,
    tile: int | None,
    overlap_px: int,
    max_bytes: int | None = None,
    threads: int | None = None,
) -> Engine:
    """Find the network of ``task``, load it, and put it on the device.

    ``threads`` is how many of them compute; ``None`` leaves it to PyTorch.

    Raises ``WeightsError``, ``DeviceError`` or ``UsageError``; nothing has been written then.
    """
    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    entry = _entry(task, model_id, weights)
    chosen_device = choose_device(device)
    dtype = choose_precision(precision)
    model = load_model(entry, weights)
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
        max_bytes=max_bytes,
    )


def _entry(task: str, model_id: str | None, weights: Path | None) -> WeightEntry | None:
    """The named checkpoint if it is for ``task``; else the default, or the user's file alone."""
    if model_id is None:
        return None if weights else registry().default(task)
    entry = registry()[model_id]
    if task not in entry.tasks:
        raise WeightsError(
            f"{model_id} is for {', '.join(entry.tasks)}, not for {task}.",
            hint="`restore models list` shows which model does what.",
        )
    return entry


def run(
    engine: Engine,
    task: str,
    selection: Selection,
    *,
    listener: Listener,
    scoring: InPass | None = None,
    files: FileOptions = FILES_AS_THEY_ARE,
    ledger: Ledger | None = None,
) -> Report:
    """Restore everything; one bad image never stops the rest, Ctrl-C ends the run cleanly."""
    rows = (
        restore_item(engine, item, listener=listener, scoring=scoring, files=files, ledger=ledger)
        for item in selection.items
    )
    settings = settings_of(
        task,
        model_id=engine.model.id,
        model_sha256=engine.model.sha256,
        device=str(engine.device),
        precision=engine.precision_name,
        scoring=scoring,
    )
    return collect(enumerate(rows), task, selection, listener=listener, settings=settings)


def restore_item(
    engine: Engine,
    item: Item,
    *,
    listener: Listener,
    scoring: InPass | None,
    files: FileOptions,
    ledger: Ledger | None,
) -> Row:
    """Restore one picture from file to file, whatever engine asks for it; its row tells how."""
    if (row := settled(item)) is not None:
        return row
    name, source, target = str(item.source), item.source, item.target
    started = time.perf_counter()
    try:
        if finished_meanwhile(item, ledger):
            return Row(name=name, input=name, output=str(target), status="skipped")
        data, photo, dtype = read(item, files)
        restored, plan = restore_photo(engine, photo, listener.advance, dtype=dtype)
        lost = write(item, restored, files, ledger, source=data)
    except RestoreError as error:
        return failed(item, error, time.perf_counter() - started)
    row = Row(
        name=name,
        input=name,
        output=str(target),
        height_px=photo.size[0],
        width_px=photo.size[1],
        exact=plan.exact,
        tile_px=plan.tile_px,
        strip_rows=plan.strip_rows,
        elapsed_s=time.perf_counter() - started,
        predicted_memory_bytes=plan.predicted_bytes,
        peak_memory_bytes=peak_bytes(engine.device),
        notes=photo.notes + lost,
    )
    return _scored(row, source, target, scoring) if scoring else row


def _scored(row: Row, source: Path, target: Path, scoring: InPass) -> Row:
    """``row`` with its scores; a picture that cannot be scored stays restored, with a note."""
    reference = scoring.references.get(source)
    if reference is None:
        return row
    try:
        return replace(
            row,
            reference=str(reference),
            scores_before=scoring.scores(source, source),
            scores_after=scoring.scores(source, target),
        )
    except RestoreError as error:
        return replace(row, notes=(*row.notes, f"not scored: {error}"))


def restore_photo(
    engine: Engine,
    photo: Photo,
    on_progress: ImageProgress = lambda share: None,
    *,
    dtype: DTypeLike | None = None,
) -> tuple[Photo, Plan]:
    """Restore the pixels of ``photo``; alpha and metadata are carried."""
    pixels, plan = engine.restore(photo.filled(), on_progress, dtype=dtype)
    return photo.with_pixels(pixels), plan
