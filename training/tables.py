"""The rows of an evaluation, as text for a terminal and as data for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.classic import NOT_INSTALLED
from training.judging import DAMAGED_DB, VISIBLE_DB, Figures
from training.testsets import TestSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method on one set; no figures where it could not be run."""

    chosen: TestSet
    method: str
    kind: str  # input, network or classic
    figures: Figures | None

    def as_data(self) -> dict[str, Any]:
        """For JSON: means over the set, and PSNR of each picture."""
        data: dict[str, Any] = {
            "set": self.chosen.name,
            "task": self.chosen.task,
            "method": self.method,
            "kind": self.kind,
        }
        if not (found := self.figures):
            return {**data, "note": NOT_INSTALLED}
        return {
            **data,
            "protocol": found.protocol.name,
            "pictures": len(found.psnr_db),
            "psnr_db": float(found.psnr_db.mean()),
            "ssim": float(found.ssim.mean()),
            "delta_e": float(found.delta_e.mean()),
            "chroma_ratio": found.chroma_ratio,
            "lowest_db": float(found.psnr_db.min()),
            "below_38": found.below(VISIBLE_DB),
            "below_32": found.below(DAMAGED_DB),
            "each_db": [round(float(value), 4) for value in found.psnr_db],
        }


def block(rows: Sequence[Row], made: str = "") -> str:
    """A headline, and a line for each row; ``made`` is the digest of made pixels."""
    first = rows[0]
    assert first.figures is not None
    count, protocol = len(first.figures.psnr_db), first.figures.protocol
    head = f"{first.chosen.task}: {first.chosen.name} ({count} pictures"
    head += f"; PSNR and SSIM on {protocol.channel_text}" if not first.chosen.is_clean else ""
    head += f"; pixels {made[:12]})" if made else ")"
    line = harm_line if first.chosen.is_clean else score_line
    return "\n".join([head, *(line(row, first.figures) for row in rows if wanted(row))])


def wanted(row: Row) -> bool:
    """Whether a row says anything: a good photograph itself need not be scored."""
    return not (row.chosen.is_clean and row.kind == "input")


def score_line(row: Row, before: Figures) -> str:
    """PSNR and what it gained, SSIM, colour difference and chroma ratio."""
    name = f"  {row.method:34}"
    if not (found := row.figures):
        return f"{name}{NOT_INSTALLED}"
    gains = found.psnr_db - before.psnr_db
    gain = f"({gains.mean():+6.2f}, worst {gains.min():+6.2f})" if row.kind != "input" else ""
    return (
        f"{name}{found.psnr_db.mean():6.2f} dB {gain:26}SSIM {found.ssim.mean():.4f}  "
        f"ΔE00 {found.delta_e.mean():5.2f}  chroma ×{found.chroma_ratio:.2f}"
    )


def harm_line(row: Row, before: Figures) -> str:
    """How good photographs came back."""
    assert row.figures is not None
    found = row.figures
    values = f"mean {found.psnr_db.mean():6.2f} dB, lowest {found.psnr_db.min():6.2f}"
    visible, damaged = found.below(VISIBLE_DB), found.below(DAMAGED_DB)
    return (
        f"  {row.method:34}{values}; {visible} below {VISIBLE_DB:g}, {damaged} below "
        f"{DAMAGED_DB:g}; chroma ×{found.chroma_ratio:.3f}"
    )


def gain_of(rows: Sequence[Row], method: str) -> float:
    """Mean PSNR that a method gained over the input, in dB."""
    means = {row.method: row.figures.psnr_db.mean() for row in rows if row.figures}
    return float(means[method] - means["input"])
