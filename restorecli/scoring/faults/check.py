"""A picture file and what is wrong with it: decoded, measured, judged, and said in words."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restorecli.images.photo import Photo
from restorecli.images.reading import decode_photo, read_file
from restorecli.images.seen import eight_bits, over_white
from restorecli.limits import DEFAULT_MAX_PIXELS
from restorecli.scoring.faults.verdict import FAULTS, Verdict, judge

COARSE = 60  # a JPEG of lower quality has blocks that one can see
STANDARD_SUM = 3688  # of the luma table that libjpeg scales, at quality 50
WORDS = {
    "rain": "rain",
    "snow": "snow",
    "haze": "haze",
    "noise": "noise",
    "dark": "too little light",
    "motion": "blur by motion",
    "defocus": "out of focus",
}
NOTHING = "Nothing to do: no fault that restore mends was found."


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What is known of one picture."""

    name: str  # path, or <stdin>
    size: tuple[int, int]  # (height, width) in pixels
    jpeg_quality: int | None  # by its quantisation table; ``None`` for other formats
    verdict: Verdict

    @property
    def command(self) -> str | None:
        """What one would type to mend it; ``None`` where nothing is recommended."""
        task = self.verdict.task
        return f"restore {task} {quoted(self.name)}" if task else None

    def sentence(self) -> str:
        """The advice."""
        verdict = self.verdict
        if verdict.fault:
            what = WORDS[verdict.fault].capitalize()
            return f"{what}, {self._percent(verdict.fault)} likely: {self.command}"
        if verdict.perhaps:
            what = WORDS[verdict.perhaps]
            return (
                f"Not sure: perhaps {what}, {self._percent(verdict.perhaps)} likely. "
                "Nothing is recommended."
            )
        if self.jpeg_quality is not None and self.jpeg_quality < COARSE:
            return f"{NOTHING} Its JPEG blocks stay: no task removes them."
        return NOTHING

    def _percent(self, fault: str) -> str:
        """A chance in words; nothing is quite sure."""
        return f"{min(self.verdict.chances[fault], 0.99):.0%}"

    def lines(self) -> Iterator[tuple[str, str, str]]:
        """What was looked for: its name, how likely it is, and what was measured."""
        verdict = self.verdict
        measured = {
            "noise": f"σ about {verdict.noise_sigma:.1f} of 255",
            "haze": f"dark channel {verdict.dark_channel:.2f}",
            "dark": f"mean luma {verdict.light:.2f}",
            "motion": f"variance of the Laplacian {verdict.sharpness:.0f}",
        }
        for fault in ("noise", "haze", "dark", "motion", "defocus", "rain", "snow"):
            yield WORDS[fault], self._percent(fault), measured.get(fault, "")

    def as_data(self) -> dict[str, Any]:
        """Everything, for JSON."""
        verdict = self.verdict
        state = verdict.fault or ("unsure" if verdict.perhaps else "nothing")
        return {
            "type": "check",
            "input": self.name,
            "status": "ok",
            "height_px": self.size[0],
            "width_px": self.size[1],
            "jpeg_quality": self.jpeg_quality,
            "verdict": state,
            "perhaps": verdict.perhaps,
            "task": verdict.task,
            "command": self.command,
            "sentence": self.sentence(),
            "chances": {name: round(verdict.chances[name], 4) for name in FAULTS},
            "measures": {
                "noise_sigma": round(verdict.noise_sigma, 3),
                "dark_channel": round(verdict.dark_channel, 4),
                "mean_luma": round(verdict.light, 4),
                "laplacian_variance": round(verdict.sharpness, 2),
            },
        }


def quoted(name: str) -> str:
    """A path as one would type it."""
    name = f"./{name}" if name.startswith("-") else name
    return subprocess.list2cmdline([name]) if os.name == "nt" else shlex.quote(name)


def check_file(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Checked:
    """Judge the picture in a file; raises ``InputError`` like reading does."""
    return check_data(read_file(path), str(path), max_pixels=max_pixels)


def check_data(data: bytes, name: str, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Checked:
    """Judge the picture in ``data``, which messages call ``name``."""
    return check_photo(decode_photo(data, name, max_pixels=max_pixels), name)


def check_photo(photo: Photo, name: str) -> Checked:
    """Judge a photograph that was read."""
    return Checked(
        name=name,
        size=photo.size,
        jpeg_quality=jpeg_quality(photo.carried.jpeg_tables),
        verdict=judge(eight_bits(over_white(photo))),
    )


def jpeg_quality(tables: tuple[tuple[int, ...], ...]) -> int | None:
    """The quality from 1 to 100 at which libjpeg has a table of about these steps."""
    if not tables:
        return None
    percent = 100 * float(np.sum(tables[0])) / STANDARD_SUM
    quality = (200 - percent) / 2 if percent < 100 else 5000 / percent
    return int(np.clip(round(quality), 1, 100))
