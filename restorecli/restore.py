"""The use case: a job in, results out. One image, a list, or a folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

import torch
from numpy.typing import DTypeLike
from torch import Tensor

from restorecli.allocator import keep_freed_memory
from restorecli.atomic import remove_leftovers
from restorecli.errors import DeviceError, InputError, RestoreError, WeightsError
from restorecli.images import FileOptions, Photo
from restorecli.images.photo import Pixels
from restorecli.images.tensors import to_pixels, to_tensor
from restorecli.inputs import Item, Selection
from restorecli.manifest import Ledger
from restorecli.networks.strips import restore_by_strips
from restorecli.options import AUTO
from restorecli.plan import (
    Plan,
    choose_device,
    choose_precision,
    free_bytes,
    make_plan,
    peak_bytes,
    smaller_plan,
)
from restorecli.report import Report, Row, Settings
from restorecli.results import finished_meanwhile, read, write
from restorecli.scoring import InPass, protocol_text, versions
from restorecli.tiling import restore_tiled
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
        gray = pixels.ndim == 2
        if self.model.channels == 1 and not gray:
            raise InputError(
                f"{self.model.id} restores gray pictures, this one is RGB.",
                hint="Choose another --model.",
            )
        x = to_tensor(pixels, self.model.channels)  # (1, C, H, W)
        size = (x.shape[2], x.shape[3])
        plan = make_plan(
            self.model.network,
            size,
            free_bytes(self.device),
            bytes_per_value=self.precision.itemsize,
            tile=self.tile,
            overlap_px=self.overlap_px,
        )
        y, plan = self._within_memory(x, plan, self.precision, on_progress)
        if self.precision != torch.float32 and spoiled(x, y):
            y, plan = self._within_memory(x, plan, torch.float32, on_progress)
        if what := spoiled(x, y):
            raise RestoreError(
                f"{self.model.id} made {what}, so nothing was written.",
                hint="Choose another --model, and report the picture.",
            )
        return to_pixels(y, gray=gray, dtype=dtype or pixels.dtype), plan

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
        return self.tile == AUTO

    def _run(
        self, x: Tensor, plan: Plan, precision: torch.dtype, on_progress: ImageProgress
    ) -> Tensor:
        def forward(part: Tensor) -> Tensor:
            return restore_by_strips(
                self.model.network,
                part.to(self.device),
                strip_rows=plan.strip_rows,
                dtype=precision,
            ).cpu()

        if plan.tile_px is None:
            y = forward(x)
            on_progress(1.0)
            return y
        return restore_tiled(
            forward, x, tile_px=plan.tile_px, overlap_px=plan.overlap_px, on_tile=on_progress
        )


def spoiled(x: Tensor, y: Tensor) -> str:
    """What is wrong with ``y``, made from ``x``; nothing if it can be a picture."""
    if not bool(torch.isfinite(y).all()):
        return "values that are not finite"
    low, high = y.clamp(0, 1).aminmax()
    before = x.max() - x.min()
    if high - low < CONSTANT_RANGE and before > PICTURE_RANGE:
        return "one constant colour of the whole picture"
    return ""


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
    network = model.network.to(chosen_device)
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

    def finish(self, row: Row) -> None:
        """One input has come to its end."""


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
    started = time.perf_counter()
    rows: list[Row] = []
    interrupted = False
    listener.start(len(selection.items))
    try:
        for folder in {item.target.parent for item in selection.items if not item.to_stdout}:
            remove_leftovers(folder)
        for item in selection.items:
            row = _restore_item(
                engine, item, listener=listener, scoring=scoring, files=files, ledger=ledger
            )
            rows.append(row)
            listener.finish(row)
    except KeyboardInterrupt:
        interrupted = True
    exact = [row.exact for row in rows if row.exact is not None]
    protocol = scoring.protocol if scoring else None
    return Report(
        title=f"{task}, {len(rows)} picture{'' if len(rows) == 1 else 's'}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        elapsed_s=time.perf_counter() - started,
        settings=Settings(
            command=task,
            task=task,
            model_id=engine.model.id,
            model_sha256=engine.model.sha256,
            protocol=protocol.name if protocol else None,
            protocol_text=protocol_text(protocol) if protocol else None,
            device=str(engine.device),
            precision=engine.precision_name,
            exact=all(exact) if exact else None,
            versions=versions(),
        ),
        rows=tuple(rows),
        notes=(f"{selection.ignored} other file(s) ignored",) if selection.ignored else (),
        interrupted=interrupted,
    )


def _restore_item(
    engine: Engine,
    item: Item,
    *,
    listener: Listener,
    scoring: InPass | None,
    files: FileOptions,
    ledger: Ledger | None,
) -> Row:
    name, source, target = str(item.source), item.source, item.target
    if item.finished:
        return Row(name=name, input=name, output=str(target), status="skipped")
    started = time.perf_counter()
    try:
        if item.error:
            raise item.error
        if finished_meanwhile(item, ledger):
            return Row(name=name, input=name, output=str(target), status="skipped")
        data, photo, dtype = read(item, files)
        restored, plan = restore_photo(engine, photo, listener.advance, dtype=dtype)
        lost = write(item, restored, files, ledger, source=data)
    except RestoreError as error:
        return Row(
            name=name,
            input=name,
            status="failed",
            error=str(error),
            exit_code=error.exit_code,
            elapsed_s=time.perf_counter() - started,
        )
    row = Row(
        name=name,
        input=name,
        output=str(target),
        height_px=photo.size[0],
        width_px=photo.size[1],
        exact=plan.exact,
        tile_px=plan.tile_px,
        elapsed_s=time.perf_counter() - started,
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
        scores = {
            "reference": str(reference),
            "scores_before": scoring.scores(source, source),
            "scores_after": scoring.scores(source, target),
        }
    except RestoreError as error:
        scores = {"notes": (*row.notes, f"not scored: {error}")}
    return row.model_copy(update=scores)


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
