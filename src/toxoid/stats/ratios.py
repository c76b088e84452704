"""Means of counts over replies that hang together by request, such as words: with a clustered interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toxoid.stats.resampling import Floats, check_options, percentiles

_CELLS = 2_000_000
"""Largest number of counts held at once (16 MB)."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean and its interval, in the unit of the values.

    ``value`` is ``None`` without any value; the ends are ``None`` where fewer than two clusters hold one.
    """

    value: float | None
    low: float | None
    high: float | None


def clustered_means(
    totals: Floats, counts: Floats, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> list[Mean]:
    """Return, column by column, the mean over all values of all clusters.

    A column's mean is the sum of its totals over the sum of its counts (a ratio estimate: clusters weigh by
    their values). The interval is the percentile bootstrap over clusters. Counts have no upper end, so no
    pseudo clusters widen it as they widen that of a rate: with few clusters it is too narrow.

    Args:
        totals: Shape (clusters, columns), sums of the values.
        counts: The same shape, how many values there are.
        level: Nominal coverage.
        resamples: Bootstrap draws; the same for all columns.
        seed: Of the draws; the order of the clusters makes no difference.

    Raises:
        ValueError: Different shapes, or an impossible ``level`` or ``resamples``.
    """
    _check(totals, counts, level, resamples)
    columns = totals.shape[1]
    drawn = _resampled_sums(np.hstack([totals, counts]), resamples, seed)
    return [
        _mean(
            _ratio(totals[:, [column]].sum(), counts[:, [column]].sum()),
            drawn[:, column] / _positive(drawn[:, columns + column]),
            int((counts[:, column] > 0).sum()),
            level,
        )
        for column in range(columns)
    ]


def difference_of_means(
    before: tuple[Floats, Floats],
    after: tuple[Floats, Floats],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float | None, float | None, Mean]:
    """Return both means and ``after - before`` with its interval, clusters being resampled in pairs.

    Args:
        before: Totals and counts by cluster, each of shape (clusters,).
        after: The same clusters in the same order.
        level: Nominal coverage.
        resamples: Bootstrap draws.
        seed: Of the draws.

    Raises:
        ValueError: Different shapes, or an impossible ``level`` or ``resamples``.
    """
    table = np.stack([*before, *after], axis=1)
    _check(table[:, [0, 2]], table[:, [1, 3]], level, resamples)
    old, new = (_ratio(float(side[0].sum()), float(side[1].sum())) for side in (before, after))
    if old is None or new is None:
        return old, new, Mean(None, None, None)
    sums = _resampled_sums(table, resamples, seed)
    draws = sums[:, 2] / _positive(sums[:, 3]) - sums[:, 0] / _positive(sums[:, 1])
    clusters = min(int((side[1] > 0).sum()) for side in (before, after))
    return old, new, _mean(new - old, draws, clusters, level)


def _check(totals: Floats, counts: Floats, level: float, resamples: int) -> None:
    check_options(level, resamples)
    if totals.shape != counts.shape:
        raise ValueError(f"totals of shape {totals.shape} and counts of {counts.shape}; expected one shape")


def _resampled_sums(rows: Floats, resamples: int, seed: int) -> Floats:
    """Return the column sums of as many resampled rows, shape (resamples, columns); equal rows are drawn at once."""
    if not len(rows):
        return np.zeros((resamples, rows.shape[1]))
    points, multiplicity = np.unique(rows, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS // len(points))
    return np.concatenate(
        [
            rng.multinomial(len(rows), multiplicity / len(rows), size=min(step, resamples - start)) @ points
            for start in range(0, resamples, step)
        ]
    )


def _positive(counts: Floats) -> Floats:
    """Return counts with NaN for none, so that such draws are left out."""
    return np.where(counts > 0, counts, np.nan)


def _ratio(total: float, count: float) -> float | None:
    return float(total) / float(count) if count else None


def _mean(value: float | None, draws: Floats, clusters: int, level: float) -> Mean:
    known = draws[np.isfinite(draws)]
    if value is None or clusters < 2 or not len(known):
        return Mean(value, None, None)
    low, high = percentiles(known, level)
    return Mean(value, min(low, value), max(high, value))
