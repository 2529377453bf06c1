"""Photographs without a reference: did a network stain what was smooth in them?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restorecli.scoring.metrics import Stains, stains
from training.classic import methods_for
from training.data import load_photographs
from training.runner import Network, restored
from training.testsets import HARMLESS, SETS, Levels, Pair

REAL_TASKS = ("dehaze", "lowlight", *HARMLESS)
LARGEST_MOTTLE = 1.0  # of L*: about what is just seen in a sky
LARGEST_TINT = 3.0  # of a*, b*


@dataclass(frozen=True, slots=True, kw_only=True)
class RealRow:
    """One photograph, restored by one method."""

    task: str
    method: str
    kind: str  # network or classic
    picture: str  # its file name
    found: Stains

    @property
    def is_clean(self) -> bool:
        """Whether smooth regions stayed smooth and neutral, as far as there are any."""
        mottle, tint = self.found.mottle or 0.0, self.found.tint or 0.0
        return mottle <= LARGEST_MOTTLE and tint <= LARGEST_TINT

    @property
    def line(self) -> str:
        """One line of the table."""
        figures = (self.found.mottle, self.found.roughness, self.found.tint)
        mottle, roughness, tint = ("   –" if v is None else f"{v:4.1f}" for v in figures)
        return (
            f"{self.task:9}{self.picture[:34]:35}{self.method:30}"
            f"smooth {self.found.smooth_share:4.0%}  mottle {mottle}  roughness +{roughness}  "
            f"tint {tint}{'' if self.is_clean else '  STAINED'}"
        )

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "set": "real",
            "task": self.task,
            "method": self.method,
            "kind": self.kind,
            "picture": self.picture,
            "smooth_share": self.found.smooth_share,
            "mottle": self.found.mottle,
            "roughness": self.found.roughness,
            "tint": self.found.tint,
            "clean": self.is_clean,
        }


def real_rows(
    task: str, folder: Path, networks: Sequence[Network], options: argparse.Namespace
) -> list[RealRow]:
    """Every picture of ``folder``, restored by each network and each quick classic method."""
    names = [p.name for p in sorted(folder.iterdir()) if p.suffix.lower() in {".jpg", ".png"}]
    pictures = load_photographs(folder)
    results: list[tuple[str, str, list[Levels]]] = [
        (network.label, "network", restored(task, pictures, network, options.precision))
        for network in networks
    ]
    if task in {"dehaze", "lowlight"} and not options.networks_only:
        pairs = [Pair(degraded=p, clean=p) for p in pictures]
        first = next(s for s in SETS if s.task == task)
        results += [(m.name, "classic", [m(p) for p in pairs]) for m in methods_for(first)]
    return [
        RealRow(task=task, method=method, kind=kind, picture=name, found=stains(before, after))
        for method, kind, made in results
        for name, before, after in zip(names, pictures, made, strict=True)
    ]
