"""Numbers and names as people read them."""

from __future__ import annotations

import math
from datetime import datetime, timezone

from restorecli.files.addresses import redacted


def printable(text: str) -> str:
    r"""``text`` on one line: control characters and broken UTF-8 become escapes, as ``\n``.

    Passwords and queries of addresses are left out.
    """
    whole = redacted(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in whole
    )


WHOLE_LABELS = {  # of scores of spectra
    "mrae_floor": "MRAE (y ≥ 1/255)",
    "sam": "SAM, °",
    "sam_bright": "SAM of bright pixels, °",
}


def score_label(key: str) -> str:
    """A score's name with its unit, for headings and axes: ``psnr_y`` → ``PSNR-Y, dB``."""
    if key in WHOLE_LABELS:
        return WHOLE_LABELS[key]
    kind, _, channel = key.partition("_")
    channel = {"y": "Y", "y_full": "Y full range", "rgb": "RGB"}.get(channel, channel)
    names = {"psnr": f"PSNR-{channel}, dB", "ssim": f"SSIM-{channel}", "delta": "ΔE2000"}
    return names.get(kind, key.upper())


def score_text(key: str, value: float) -> str:
    """A score in a sentence: ``PSNR-Y 28.48 dB``."""
    name, _, unit = score_label(key).partition(", ")
    return f"{name} {number(value, key)} {unit}".rstrip()


def kind_label(of: str) -> str:
    """Which picture a score is of: ``before`` → ``Input``; other labels as they are."""
    known = {"before": "Input", "after": "Restored"}.get(of)
    return known or printable(of[0].upper() + of[1:] if of.startswith("after ") else of)


def number(value: float | None, score: str, *, sign: bool = False) -> str:
    """A score with the digits that mean something: two for dB and ΔE, four for the others."""
    if value is None:
        return ""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    digits = 2 if score.startswith(("psnr", "delta", "sam")) else 4
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def when(iso: str) -> str:
    """An ISO 8601 time to the minute, in UTC: ``2026-11-21 02:15 UTC``."""
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def size_text(size_bytes: float) -> str:
    """Bytes in the largest unit that leaves a number above one."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def duration_text(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
