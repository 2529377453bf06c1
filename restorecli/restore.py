"""The use case: a job in, results out. One image, a list, or a folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restorecli.allocator import keep_freed_memory
from restorecli.errors import DeviceError, InputError, RestoreError, WeightsError
from restorecli.images import Photo, check_target, read_photo, write_photo
from restorecli.images.tensors import to_pixels, to_tensor
from restorecli.inputs import Item, Selection
from restorecli.networks import channels_last
from restorecli.plan import Plan, choose_device, choose_precision, make_plan, smaller_plan
from restorecli.results import FileResult, Summary
from restorecli.tiling import restore_tiled
from restorecli.weights import WeightEntry, registry
from restorecli.weights.checkpoint import LoadedModel, load_model

ImageProgress = Callable[[float], None]  # share of one image that was just done


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A network on a device, ready to restore any number of images."""

    model: LoadedModel
    device: torch.device
    precision: torch.dtype
    tile: int | None  # pixels, ``None`` whole image, or options.AUTO
    overlap_px: int

    @property
    def precision_name(self) -> str:
        """As in ``--precision``."""
        names = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
        return names[self.precision]

    def restore(
        self, pixels: NDArray[np.uint8], on_progress: ImageProgress = lambda share: None
    ) -> tuple[NDArray[np.uint8], Plan]:
        """Restore uint8 RGB (H, W, 3) or gray (H, W) → the same shape, and the plan that was used.

        Out of memory halves an automatic tile until it fits; an explicit one is never changed.
        Raises ``DeviceError`` when nothing fits, ``RestoreError`` when the output is not finite.
        """
        gray = pixels.ndim == 2
        if self.model.channels == 1 and not gray:
            raise InputError(
                f"{self.model.id} restores gray pictures, this one is RGB.",
                hint="Choose another --model.",
            )
        x = to_tensor(pixels, self.model.channels)  # (1, C, H, W)
        size = (x.shape[2], x.shape[3])
        plan = make_plan(
            self.model.network, size, self.device, tile=self.tile, overlap_px=self.overlap_px
        )
        y, plan = self._within_memory(x, plan, self.precision, on_progress)
        if self.precision != torch.float32 and not bool(torch.isfinite(y).all()):
            y, plan = self._within_memory(x, plan, torch.float32, on_progress)
        if not bool(torch.isfinite(y).all()):
            raise RestoreError(
                f"{self.model.id} made values that are not finite, so nothing was written.",
                hint="Choose another --model, and report the picture.",
            )
        return to_pixels(y, gray=gray), plan

    def _within_memory(
        self, x: Tensor, plan: Plan, precision: torch.dtype, on_progress: ImageProgress
    ) -> tuple[Tensor, Plan]:
        """Run ``plan`` on (1, C, H, W); tighten an automatic one when memory runs out."""
        while True:
            try:
                return self._run(x, plan, precision, on_progress), plan
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                tighter = smaller_plan(plan, (x.shape[2], x.shape[3])) if self.may_shrink else None
                if tighter is None:
                    where = f"a tile of {plan.tile_px} px" if plan.tile_px else "the whole image"
                    raise DeviceError(
                        f"Out of memory on {self.device} with {where} "
                        f"({x.shape[3]}×{x.shape[2]} pixels).",
                        hint="Give a smaller --tile, such as 256, or --tile auto.",
                    ) from error
                plan = tighter

    @property
    def may_shrink(self) -> bool:
        """Whether the tile size was left to us."""
        return self.tile is not None and self.tile < 0

    def _run(
        self, x: Tensor, plan: Plan, precision: torch.dtype, on_progress: ImageProgress
    ) -> Tensor:
        def forward(part: Tensor) -> Tensor:
            part = part.to(self.device, memory_format=torch.channels_last)
            with torch.autocast(
                self.device.type, precision, enabled=precision is not torch.float32
            ):
                return self.model.network(part).float().cpu()

        with torch.inference_mode():
            if plan.tile_px is None:
                y = forward(x)
                on_progress(1.0)
                return y
            return restore_tiled(
                forward, x, tile_px=plan.tile_px, overlap_px=plan.overlap_px, on_tile=on_progress
            )


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
) -> Engine:
    """Find the network of ``task``, load it, and put it on the device.

    Raises ``WeightsError``, ``DeviceError`` or ``UsageError``; nothing has been written then.
    """
    keep_freed_memory()
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
    network = channels_last(model.network.to(chosen_device))
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    return Engine(
        model=replace(model, network=network),
        device=chosen_device,
        precision=dtype,
        tile=tile,
        overlap_px=overlap_px,
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


class Listener(Protocol):
    """Who is told while a run goes on."""

    def start(self, total: int) -> None:
        """Work on ``total`` inputs begins."""

    def advance(self, share: float) -> None:
        """``share`` of the current image has been done."""

    def finish(self, result: FileResult) -> None:
        """One input has come to its end."""


def run(
    engine: Engine, task: str, selection: Selection, *, overwrite: bool, listener: Listener
) -> Summary:
    """Restore everything; one bad image never stops the rest, Ctrl-C ends the run cleanly."""
    started = time.perf_counter()
    results: list[FileResult] = []
    interrupted = False
    listener.start(len(selection.items))
    try:
        for item in selection.items:
            result = _restore_item(engine, item, overwrite=overwrite, listener=listener)
            results.append(result)
            listener.finish(result)
    except KeyboardInterrupt:
        interrupted = True
    return Summary(
        task=task,
        model=engine.model.id,
        model_sha256=engine.model.sha256,
        device=str(engine.device),
        precision=engine.precision_name,
        results=results,
        ignored=selection.ignored,
        interrupted=interrupted,
        elapsed_s=time.perf_counter() - started,
    )


def _restore_item(engine: Engine, item: Item, *, overwrite: bool, listener: Listener) -> FileResult:
    if item.finished:
        return FileResult(input=item.source, output=item.target, status="skipped")
    started = time.perf_counter()
    try:
        if item.error:
            raise item.error
        photo = read_photo(item.source)
        check_target(item.target, alpha=photo.alpha is not None)
        restored, plan = restore_photo(engine, photo, listener.advance)
        write_photo(restored, item.target, overwrite=overwrite)
    except RestoreError as error:
        return FileResult(
            input=item.source,
            output=None,
            status="failed",
            error=error,
            elapsed_s=time.perf_counter() - started,
        )
    return FileResult(
        input=item.source,
        output=item.target,
        status="done",
        size=photo.size,
        exact=plan.exact,
        tile_px=plan.tile_px,
        elapsed_s=time.perf_counter() - started,
        notes=photo.notes,
    )


def restore_photo(
    engine: Engine, photo: Photo, on_progress: ImageProgress = lambda share: None
) -> tuple[Photo, Plan]:
    """Restore the pixels of ``photo``; alpha and metadata are carried."""
    pixels, plan = engine.restore(photo.pixels, on_progress)
    return photo.with_pixels(pixels), plan
