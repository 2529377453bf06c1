"""What a network on a device needs, as data: no torch here, so that it travels anywhere."""

from __future__ import annotations

from dataclasses import dataclass

from restorecli.limits import AUTO, DEFAULT_OVERLAP_PX
from restorecli.weights import ChosenModel, PublishedSetting


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Which network, on which device, and how it fits into memory.

    `restorecli.engine.engine.prepare` makes an engine of it, here or on another machine.
    """

    model: ChosenModel
    device: str = "auto"  # auto, cpu, cuda, cuda:N or mps
    precision: str = "auto"  # auto, fp32, bf16 or fp16
    tile: int | None = AUTO  # pixels, ``None`` whole image, or limits.AUTO
    overlap_px: int = DEFAULT_OVERLAP_PX  # that neighbouring tiles share
    max_bytes: int | None = None  # that the process, or a CUDA device, may hold in all
    published: PublishedSetting | None = None  # whose tile, overlap and precision count instead
    strength: float = 1.0  # of the change, from 0 (the picture as it was) to 1
    ensemble: bool = False  # the mean over ways to flip and turn the picture
    threads: int | None = None  # that compute; ``None``: one for each core that may be used

    @property
    def changes(self) -> dict[str, str]:
        """What was asked for that changes results and is not always there, in words."""
        strength = {"strength": f"{self.strength:g}"} if self.strength != 1 else {}
        return strength | ({"ensemble": "mean over flips and turns"} if self.ensemble else {})
