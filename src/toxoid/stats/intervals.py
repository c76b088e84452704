"""A rate with its interval: Wilson for independent trials, cluster bootstrap for replies grouped by item."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np

from toxoid.stats.resampling import Floats, bootstrap_means, check_options, percentiles

Outcomes: TypeAlias = Sequence[Sequence[float | None]]
"""Per item, the values of its replies: 1 (counted), 0 (not), ``None`` (unscored)."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of hits and what is known of it.

    Args:
        rate: Mean over the items with a scored reply of the item's share of hits; every item weighs the same.
            ``None`` if nothing was scored.
        ci_low: Lower end of the interval, in [0, 1]; ``None`` with ``rate``.
        ci_high: Upper end of the interval.
        n_items: Items given, scored or not.
        n_scored: Replies with a verdict.
        n_unscored: Replies without one.
        low_bound: The rate if every unscored reply were a miss; ``None`` only if there was no reply at all.
        high_bound: The rate if every unscored reply were a hit.
    """

    rate: float | None
    ci_low: float | None
    ci_high: float | None
    n_items: int
    n_scored: int
    n_unscored: int
    low_bound: float | None
    high_bound: float | None


def quantile_of_normal(level: float) -> float:
    """Return z such that a standard normal lies within ±z with probability ``level`` (0.95 gives 1.96)."""
    return NormalDist().inv_cdf(0.5 + level / 2.0)


def wilson_interval(k: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of ``k`` hits in ``n`` *independent* trials (Wilson 1927).

    Without trials nothing is known: (0, 1). For several replies per item use :func:`clustered_rate`.

    Raises:
        ValueError: ``k`` is not within 0..n, or ``level`` not strictly between 0 and 1.
    """
    check_options(level, 1)
    if not 0 <= k <= n:
        raise ValueError(f"{k} hits in {n} trials; expected 0 <= hits <= trials")
    if n == 0:
        return 0.0, 1.0
    z2 = quantile_of_normal(level) ** 2
    share = k / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At the ends the formula gives 0 and 1 up to rounding; say so exactly.
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)


def item_mean(replies: Sequence[float | None]) -> float | None:
    """Return the share of hits among the scored replies of one item; ``None`` if none is scored.

    Raises:
        ValueError: A value lies outside [0, 1] or is not a number.
    """
    scored = [value for value in replies if value is not None]
    for value in scored:
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"outcome {value}; expected 0, 1 or None (unscored)")
    return math.fsum(scored) / len(scored) if scored else None


def item_means(outcomes: Outcomes) -> Floats:
    """Return the means of the items that have a scored reply, shape (number of such items,)."""
    means = (item_mean(replies) for replies in outcomes)
    return np.array([mean for mean in means if mean is not None], dtype=np.float64)


def clustered_rate(outcomes: Outcomes, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Rate:
    """Return the rate of hits with an interval that respects that replies to one item hang together.

    The interval is the percentile cluster bootstrap over items with one pseudo item at each end
    (:mod:`toxoid.stats.resampling`): never of zero width, not even at 0 % and 100 %. With 50 items at 0 %
    it reaches to 5.8 %. Unscored replies are left out of it; ``low_bound`` and ``high_bound`` say what
    they could have changed.

    Args:
        outcomes: Per item, its replies' 0/1 values; ``None`` is unscored.
        level: Nominal coverage.
        resamples: Bootstrap draws.
        seed: Of the draws; the same input and seed give the same interval, in whatever order the items come.

    Raises:
        ValueError: An outcome outside [0, 1], or an impossible ``level`` or ``resamples``.
    """
    check_options(level, resamples)
    means = item_means(outcomes)
    replies = sum(len(item) for item in outcomes)
    unscored = sum(value is None for item in outcomes for value in item)
    low_bound, high_bound = (_rate_if_unscored(outcomes, value) for value in (0.0, 1.0))
    rate, low, high = interval_of_mean(means, level=level, resamples=resamples, seed=seed)
    return Rate(rate, low, high, len(outcomes), replies - unscored, unscored, low_bound, high_bound)


def interval_of_mean(
    means: Floats, *, level: float, resamples: int, seed: int
) -> tuple[float | None, float | None, float | None]:
    """Return (mean, low, high) of item means in [0, 1]; three ``None`` if there are none."""
    if not len(means):
        return None, None, None
    draws = bootstrap_means(means, low=0.0, high=1.0, resamples=resamples, rng=np.random.default_rng(seed))
    return _with_ends(math.fsum(means) / len(means), percentiles(draws, level))


def _with_ends(rate: float, ends: tuple[float, float]) -> tuple[float, float, float]:
    # The pseudo items pull the draws to the middle; the estimate itself must never fall outside.
    return rate, max(0.0, min(ends[0], rate)), min(1.0, max(ends[1], rate))


def _rate_if_unscored(outcomes: Outcomes, stand_in: float) -> float | None:
    means = item_means([[stand_in if value is None else value for value in item] for item in outcomes])
    return math.fsum(means) / len(means) if len(means) else None
