"""Limits that mean scores have to keep: ``--fail-under``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from restorecli.errors import QualityError, UsageError
from restorecli.report import Report
from restorecli.scoring.metrics import Protocol
from restorecli.scoring.metrics.spectra import SpectralProtocol


def parse_gates(
    texts: Sequence[str], protocol: Protocol | SpectralProtocol, extras: Sequence[str]
) -> dict[str, float]:
    """``["psnr_y=30"]`` → ``{"psnr_y": 30.0}``; `UsageError` for scores that will not exist."""
    known = [*protocol.keys, *extras]
    gates = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if name not in known or math.isnan(limit):
            raise UsageError(
                f"--fail-under must look like {known[0]}=30, got {text!r}.",
                hint=f"Scores of this run: {', '.join(known)}.",
            )
        gates[name] = limit
    return gates


def check_gates(report: Report, gates: Mapping[str, float]) -> None:
    """Raise `QualityError` when a mean is worse than its limit.

    Worse is lower, or higher for scores where less is better. Infinite scores pass.
    """
    means = {s.score: s.mean for s in report.summary if s.of == "after"}
    for name, limit in gates.items():
        mean = means.get(name)
        if mean is None:
            continue
        less_is_better = name in report.lower_is_better
        if mean > limit if less_is_better else mean < limit:
            side = "above" if less_is_better else "below"
            raise QualityError(f"The mean {name} is {mean:.4f}, {side} the limit of {limit:g}.")
