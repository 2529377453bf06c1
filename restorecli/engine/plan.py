"""How an image is restored in the memory there is: whole, with lower strips, or in tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product

from restorecli.engine.ensemble import SUM_BYTES
from restorecli.engine.why import plan_text
from restorecli.errors import DeviceError
from restorecli.limits import AUTO, MULTIPLE_PX, SMALLEST_TILE_PX
from restorecli.networks import Network
from restorecli.networks.strips import KEEP_BYTES, resident_bytes

MEMORY_SHARE = 0.6  # of what is free now: other programs and the encoder need some too
KEPT_SHARE = 0.87  # of --max-memory: the formula may be 15 % too low
LARGEST_TILE_PX = 4096
# 32 rows of up to 1024 columns in each thread: higher ones gain little in
# benchmarks/results/0.1.0/strips--*--cpu.txt
STRIP_PIXELS = 32_768
MOST_STRIP_ROWS = 32
# A GPU starts a few operations for every strip, in microseconds each, and wants much to do for each
# of them: strips as large as memory allows, up to this. Not measured on one yet.
GPU_STRIP_PIXELS, MOST_GPU_STRIP_ROWS = 2**22, 8192
LEAST_STRIP_ROWS = 8
IMAGE_BYTES = 4  # of one value of a restored tile, float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one image is restored: by strips, whole or in tiles (``tile_px``)."""

    tile_px: int | None
    overlap_px: int  # of tiles, if there are any
    strip_rows: int  # in each thread
    keep_bytes: int  # of what attention needs twice
    workers: int = 1  # threads that share the rows, at most
    held_bytes: int  # by the process, or on the device, before the image is restored
    needed_bytes: int  # by the image beside that
    spare_bytes: int = 0  # of the limit; 0 unless more memory would change nothing
    why: str = field(default="", compare=False)  # in words
    further: tuple[Plan, ...] = ()  # of the steps that follow in a chain

    @property
    def steps(self) -> tuple[Plan, ...]:
        """The plan of each step of a chain: this one and the further ones."""
        return (replace(self, further=()), *self.further) if self.further else (self,)

    @property
    def exact(self) -> bool:
        """The whole image: strips give the same pixels, tiles would change them."""
        return all(step.tile_px is None for step in self.steps)

    @property
    def predicted_bytes(self) -> int:
        """Peak of the process, or of the device if that is CUDA."""
        return self.held_bytes + max(step.needed_bytes for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the memory for one picture depends on, however it is restored."""

    network: Network
    size: tuple[int, int]  # (height, width) of the picture in pixels
    bytes_per_value: int  # of the features: 4 for float32, 2 for half precision
    bytes_per_result: int  # of one value of the result: 1 for 8 bits, 2 for 16, 4 for float
    ensemble: bool = False  # also turned by 90°, and added up
    beside_bytes: int = 0  # of what else is held meanwhile, and was not when this was planned
    on_gpu: bool = False  # which takes higher strips
    threads: int = 1  # that may share the rows

    def needed(
        self, tile_px: int | None, *, strip_rows: int, keep_bytes: int, workers: int = 1
    ) -> int:
        """Peak bytes beside the decoded picture: features, the result, tiles and their blend.

        Args:
            tile_px: Side of a tile, or ``None`` for the whole image.
            strip_rows: Rows of a strip.
            keep_bytes: Most that attention may keep of what it needs twice.
            workers: Threads that share the rows, at most.
        """
        values = self.network.ends.out_channels * self.size[0] * self.size[1]
        result_bytes = self.bytes_per_result * values
        working_bytes = [
            self._working(size, tile_px, strip_rows, keep_bytes, workers)
            for size in ((self.size, self.size[::-1]) if self.ensemble else (self.size,))
        ]
        sum_bytes = SUM_BYTES * values if self.ensemble else 0
        return self.beside_bytes + result_bytes + sum_bytes + max(working_bytes)

    def _working(
        self,
        size: tuple[int, int],
        tile_px: int | None,
        strip_rows: int,
        keep_bytes: int,
        workers: int,
    ) -> int:
        """Peak bytes of features, tiles and their blend for a picture of ``size``."""
        height, width = (min(tile_px or side, side) for side in size)
        needed = resident_bytes(
            self.network,
            height,
            width,
            strip_rows=strip_rows,
            bytes_per_value=self.bytes_per_value,
            keep_bytes=keep_bytes,
            workers=workers,
        )
        if tile_px is not None:
            channels = self.network.ends.out_channels
            band = (channels + 1) * height * size[1]  # sums and weights; twice, when handed on
            needed += IMAGE_BYTES * (channels * height * width + 2 * band)
        return needed

    def strip_heights(self, tile_px: int | None) -> list[int]:
        """Rows of a strip to try, for the whole picture or for tiles."""
        columns = max(self.size) if self.ensemble else self.size[1]
        width = min(tile_px or columns, columns)
        return strip_heights(math.ceil(width / self.network.ends.packing), on_gpu=self.on_gpu)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What there is, in bytes."""

    available_bytes: int  # can be had now
    held_bytes: int = 0  # is held now
    max_bytes: int | None = None  # that ``--max-memory`` allows in all

    @property
    def budget_bytes(self) -> float:
        """What a picture may take beside what is held."""
        if self.max_bytes is None:
            return MEMORY_SHARE * self.available_bytes
        return KEPT_SHARE * (self.max_bytes - self.held_bytes)


def make_plan(demand: Demand, memory: Memory, *, tile: int | None, overlap_px: int) -> Plan:
    """Whole image if it fits, with lower strips if it must; else the largest tiles that do.

    Without ``max_bytes`` the limit is a share of the memory that can be had, and the smallest
    tiles are tried even where they should not fit.

    Args:
        demand: The network and the picture.
        memory: What there is for them.
        tile: Side in pixels, ``None`` for the whole image, or ``AUTO``.
        overlap_px: What neighbouring tiles share.

    Raises:
        DeviceError: Nothing that ``tile`` allows fits into ``max_bytes``.
    """
    plans: list[Plan] = []  # made until one fits

    def why(chosen: Plan) -> str:
        return plan_text(chosen, demand, memory, tile=tile, first=plans[0])

    for side, rows, keep_bytes, workers in _ways(demand, tile):
        candidate = Plan(
            tile_px=side,
            overlap_px=overlap_px,
            strip_rows=rows,
            keep_bytes=keep_bytes,
            workers=workers,
            held_bytes=memory.held_bytes,
            needed_bytes=demand.needed(
                side, strip_rows=rows, keep_bytes=keep_bytes, workers=workers
            ),
        )
        plans.append(candidate)
        spare_bytes = memory.budget_bytes - candidate.needed_bytes
        if spare_bytes >= 0:
            spare_bytes = 0 if len(plans) > 1 else spare_bytes
            return replace(candidate, spare_bytes=int(spare_bytes), why=why(candidate))
    if memory.max_bytes is None:
        chosen = plans[-1] if tile == AUTO else plans[0]
        return replace(chosen, why=f"{why(chosen)} Less was not possible.")
    raise _too_large(demand, memory, plans[-1], may_tile=tile == AUTO)


def _ways(demand: Demand, tile: int | None) -> Iterator[tuple[int | None, int, int, int]]:
    """(tile side, strip rows, kept bytes, workers) to try, the fastest first."""
    longest = max(demand.size)
    if tile is not None and tile >= longest:
        tile = None
    sides = [None, *range(LARGEST_TILE_PX, 0, -SMALLEST_TILE_PX)] if tile == AUTO else [tile]
    for side in sides:
        if side is not None and side >= longest and side != SMALLEST_TILE_PX:
            continue
        workers = demand.threads
        for rows, keep_bytes in product(demand.strip_heights(side), (KEEP_BYTES, 0)):
            yield side, rows, keep_bytes, workers
        while workers > 1:
            workers //= 2
            yield side, LEAST_STRIP_ROWS, 0, workers


def _too_large(demand: Demand, memory: Memory, least: Plan, *, may_tile: bool) -> DeviceError:
    """What to say when even ``least`` does not fit into ``--max-memory``."""
    height, width = demand.size
    held_bytes, max_bytes = memory.held_bytes, memory.max_bytes or 0
    what = f"a tile of {least.tile_px} px" if least.tile_px else "the whole image"
    return DeviceError(
        f"{width}×{height} pixels do not fit into --max-memory {max_bytes / 1e6:.0f} MB: "
        f"{held_bytes / 1e6:.0f} MB are in use, and {what} needs "
        f"{least.needed_bytes / 1e6:.0f} MB more.",
        hint=f"Give --max-memory {_round_up(held_bytes + least.needed_bytes / KEPT_SHARE)} or more"
        + ("." if may_tile else ", or --tile auto."),
    )


def _round_up(size_bytes: float) -> str:
    return f"{math.ceil(size_bytes / 1e7) * 10}MB"


def strip_heights(width: int, *, on_gpu: bool = False) -> list[int]:
    """Heights to try for features of ``width`` columns: the fastest, then lower ones."""
    heights = [strip_height(width, on_gpu=on_gpu)]
    while heights[-1] > LEAST_STRIP_ROWS:
        heights.append(heights[-1] // 2 // LEAST_STRIP_ROWS * LEAST_STRIP_ROWS)
    return heights


def strip_height(width: int, *, on_gpu: bool = False) -> int:
    """Rows of a strip for features of ``width`` columns: fewer where rows are long.

    A multiple of 8, because sums are taken over blocks of 8 rows: the height changes no pixel.
    """
    pixels, most = STRIP_PIXELS, MOST_STRIP_ROWS
    if on_gpu:
        pixels, most = GPU_STRIP_PIXELS, MOST_GPU_STRIP_ROWS
    rows = pixels // width // LEAST_STRIP_ROWS * LEAST_STRIP_ROWS
    return max(LEAST_STRIP_ROWS, min(most, rows))


def smaller_plan(demand: Demand, plan: Plan, *, may_tile: bool) -> Plan | None:
    """The plan to try when memory ran out under ``plan``; ``None`` when nothing is left to try.

    First the lowest strips in one thread with nothing kept, which change no pixel; then, if
    ``may_tile``, half the tile.
    """
    tile_px = plan.tile_px
    if (plan.strip_rows, plan.keep_bytes, plan.workers) == (LEAST_STRIP_ROWS, 0, 1):
        tile_px = (plan.tile_px or max(demand.size)) // 2 // MULTIPLE_PX * MULTIPLE_PX
        if not may_tile or tile_px < SMALLEST_TILE_PX:
            return None
    return replace(
        plan,
        tile_px=tile_px,
        strip_rows=LEAST_STRIP_ROWS,
        keep_bytes=0,
        workers=1,
        spare_bytes=0,
        needed_bytes=demand.needed(tile_px, strip_rows=LEAST_STRIP_ROWS, keep_bytes=0),
    )
