"""The cluster bootstrap of a bounded mean, on which every interval of a rate or a difference rests.

An item (one request with all its replies) is one value: the mean over its replies. Items are independent,
replies of one item are not, so items are what is resampled.

The plain percentile bootstrap fails where audits live: with no hit at all it has zero width, and at a rate
of 2 % over 50 items its nominal 95 % covers 65 to 92 %. Here the population that is resampled holds, beside
the ``K`` items, one pseudo item at each end of the range (Laplace's rule, in the manner of Agresti and
Coull 1998). Its weight vanishes as ``2 / (K + 2)``. Simulated over 8 to 150 items, 1 and 5 replies, rates
of 2 to 90 % and intra-item correlations of 0 to 0.8, the interval then covers 94 to 100 % and is about as
wide as Wilson's with the right effective sample size. The point estimate is left alone.

Equal values are counted first and their counts drawn at once (multinomial), so the cost depends on the
number of *distinct* values and the order of the items cannot matter.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

DECIMALS = 12
"""Values closer than this are the same value; keeps ``1 - 0.8`` and ``0.2`` together."""

_CELLS = 2_000_000
"""Largest number of counts held at once (16 MB)."""


def check_options(level: float, resamples: int) -> None:
    """Refuse options no interval can have.

    Raises:
        ValueError: ``level`` is not strictly between 0 and 1, or ``resamples`` is below 1.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; expected a share strictly between 0 and 1, such as 0.95")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; expected at least 1")


def percentiles(draws: Floats, level: float) -> tuple[float, float]:
    """Return the central ``level`` share of the draws as (low, high)."""
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return float(low), float(high)


def bootstrap_means(
    values: Floats, *, low: float, high: float, resamples: int, rng: np.random.Generator
) -> Floats:
    """Draw means of resampled items, with one pseudo item at each end of the range.

    Args:
        values: Shape (K,), one mean per item, within [low, high]; K >= 1.
        low: Least possible value: 0 for a rate, -1 for a difference of rates.
        high: Greatest possible value.
        resamples: Number of draws R.
        rng: Source of randomness.

    Returns:
        Shape (R,). The mirrored values (``low + high - values``) give the mirrored draws, up to their order:
        of two mirror images the one that sorts first is drawn, and where both are the same, half of the draws
        are the mirror of the other half. So the names of the two outcomes, and which side is called
        "before", make no difference.
    """
    middle = (low + high) / 2.0
    ends = np.array([low, high])
    points, counts = np.unique(
        np.round(np.concatenate([values, ends]) - middle, DECIMALS), return_counts=True
    )
    here, mirrored = [*points, *counts], [*-points[::-1], *counts[::-1]]
    if here == mirrored:
        half = _multinomial_means(points, counts, resamples // 2, rng)
        return middle + np.concatenate([half, -half, np.zeros(resamples % 2)])
    if mirrored < here:
        return middle - _multinomial_means(-points[::-1], counts[::-1], resamples, rng)
    return middle + _multinomial_means(points, counts, resamples, rng)


def _multinomial_means(
    points: Floats, counts: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> Floats:
    total = int(counts.sum())
    shares = counts / total
    step = max(1, _CELLS // len(points))
    drawn = [np.empty(0)]
    drawn += [
        rng.multinomial(total, shares, size=min(step, resamples - start)) @ points
        for start in range(0, resamples, step)
    ]
    return np.concatenate(drawn) / total
