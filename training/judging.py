"""Figures of a result: how near it is to the target, how colourful, and what it did no harm to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

from restorecli.scoring.metrics import PROTOCOLS, Protocol, score
from training.testsets import Levels

HIGHEST_DB = 99.0  # in place of infinity, for identical pictures
VISIBLE_DB, DAMAGED_DB = 38.0, 32.0  # a photograph that was good may not come back below these


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of each picture of a set, float64 (N,), and the protocol they follow.

    Attributes:
        psnr_db: At most ``HIGHEST_DB``.
        ssim: Structural similarity.
        delta_e: Mean CIEDE2000 colour difference from the target.
        chroma: Mean CIELAB chroma.
        target_chroma: The same of the target.
    """

    protocol: Protocol
    psnr_db: NDArray[np.float64]
    ssim: NDArray[np.float64]
    delta_e: NDArray[np.float64]
    chroma: NDArray[np.float64]
    target_chroma: NDArray[np.float64]

    @property
    def chroma_ratio(self) -> float:
        """Mean chroma of all results over that of all targets: below 1, colour was lost."""
        return float(self.chroma.mean() / max(float(self.target_chroma.mean()), 1e-9))

    def below(self, psnr_db: float) -> int:
        """How many pictures score less."""
        return int((self.psnr_db < psnr_db).sum())


COLUMNS = ("psnr_db", "ssim", "delta_e", "chroma", "target_chroma")


def kept_figures(folder: Path | None, key: str, make: Callable[[], Figures]) -> Figures:
    """What ``make`` gives, or what it gave when it was last asked with this ``key``."""
    if folder is None:
        return make()
    file = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        columns = {name: np.array(kept[name], np.float64) for name in COLUMNS}
        return Figures(protocol=PROTOCOLS[kept["protocol"]], **columns)
    found = make()
    folder.mkdir(parents=True, exist_ok=True)
    data: dict[str, object] = {name: getattr(found, name).tolist() for name in COLUMNS}
    text = json.dumps({"key": key, "protocol": found.protocol.name, **data})
    unfinished = file.with_suffix(".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(file)
    return found


def judge(results: Sequence[Levels], targets: Sequence[Levels], protocol: Protocol) -> Figures:
    """Compare each result with its target: uint8 RGB (H, W, 3) each."""
    rows = [figures_of(*both, protocol) for both in zip(results, targets, strict=True)]
    columns = np.array(rows, np.float64).T
    return Figures(protocol=protocol, **dict(zip(COLUMNS, columns, strict=True)))


def figures_of(result: Levels, target: Levels, protocol: Protocol) -> tuple[float, ...]:
    """PSNR, SSIM, ΔE00, and the mean chroma of both."""
    psnr_db, ssim = score(result, target, protocol).values()
    labs = [rgb2lab(picture) for picture in (result, target)]
    chromas = [float(np.hypot(lab[..., 1], lab[..., 2]).mean()) for lab in labs]
    delta_e = float(deltaE_ciede2000(labs[1], labs[0]).mean())
    return (min(psnr_db, HIGHEST_DB), ssim, delta_e, *chromas)
