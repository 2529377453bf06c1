"""What scores of two methods on the same pictures say of their difference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from restorecli.report import Comparison, Row

RESAMPLES = 10_000
RESAMPLES_AT_ONCE = 100  # what memory bounds, however many pictures there are
CONFIDENCE = 0.95


def compare_methods(rows: Sequence[Row], label: str) -> list[Comparison]:
    """The paired difference of every score, this run minus the method called ``label``.

    The interval is the percentile bootstrap over pictures (Efron and Tibshirani, 1993), with
    10,000 resamples and a fixed seed: the same rows give the same interval.
    """
    pairs = [
        (row.scores_after, other.scores)
        for row in rows
        for other in row.others
        if other.label == label
    ]
    comparisons = []
    for name in dict.fromkeys(key for ours, _ in pairs for key in ours):
        both = [(ours[name], theirs[name]) for ours, theirs in pairs if name in theirs]
        finite = [(a, b) for a, b in both if math.isfinite(a) and math.isfinite(b)]
        differences = np.array([a - b for a, b in finite])
        low, high = bootstrap_interval(differences)
        comparisons.append(
            Comparison(
                score=name,
                label=label,
                count=len(finite),
                infinite=len(both) - len(finite),
                mean_difference=float(differences.mean()) if finite else None,
                low=low,
                high=high,
                higher=sum(a > b for a, b in both),
                lower=sum(a < b for a, b in both),
            )
        )
    return comparisons


def bootstrap_interval(differences: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """95 % percentile bootstrap interval of the mean; (None, None) for fewer than two values."""
    if len(differences) < 2:
        return None, None
    from scipy.stats import bootstrap

    found = bootstrap(
        (differences,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=RESAMPLES_AT_ONCE,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)
