"""Before and after on the same items: the difference, its interval, and a test of "nothing changed"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from toxoid.stats.intervals import Outcomes, item_mean
from toxoid.stats.resampling import DECIMALS, Floats, bootstrap_means, check_options, percentiles

TestName: TypeAlias = Literal["mcnemar", "sign-flip exact", "sign-flip sampled"]

_EXACT_WORK = 200_000_000
"""Additions the exact sign-flip test may cost (about 0.2 s) before signs are sampled instead."""

_CELLS = 2_000_000
"""Largest number of sampled values held at once (16 MB)."""


@dataclass(frozen=True, slots=True)
class PairedResult:
    """How a rate changed on the items scored on both sides. All of it ``None`` or 0 if there is no such item.

    Args:
        before: Mean over the shared items of the share of hits before.
        after: The same afterwards.
        difference: ``after - before``.
        ci_low: Lower end of the interval of the difference, in [-1, 1].
        ci_high: Upper end.
        p_value: Two-sided, of the hypothesis that before and after are exchangeable within each item.
        test: Which test gave ``p_value``.
        n_items: Items scored on both sides.
        n_excluded: Items left out because one side has no scored reply.
        rose: Items whose rate went up (hits gained).
        fell: Items whose rate went down (hits lost).
    """

    before: float | None
    after: float | None
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    test: TestName | None
    n_items: int
    n_excluded: int
    rose: int
    fell: int


def mcnemar_exact(b: int, c: int) -> float:
    """Return the two-sided exact McNemar p value of ``b`` flips one way and ``c`` the other.

    It is the binomial test of the ``b + c`` discordant pairs against 1/2; without any, 1.

    Raises:
        ValueError: A count is negative.
    """
    if b < 0 or c < 0:
        raise ValueError(f"flips {b} and {c}; expected counts of at least 0")
    return min(1.0, 2.0 * float(bdtr(min(b, c), b + c, 0.5)))


def paired_difference(
    before: Outcomes, after: Outcomes, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> PairedResult:
    """Compare two systems on the same items.

    Every item weighs the same: its value is the difference of its two means over replies. The interval is
    the percentile bootstrap over items with one pseudo item that rose from 0 to 1 and one that fell from 1
    to 0 (:mod:`toxoid.stats.resampling`). So it has width even when all items agree: with 50 items and no
    change it is ±5.8 points, and it narrows as 3 / (n + 2). Test and interval are made differently and may
    disagree at the edge.

    The test is McNemar's if every shared item has one scored reply on each side, otherwise the sign-flip test
    of the items' differences, of which McNemar's is the special case: :func:`sign_flip_test`.

    Args:
        before: Per item, its replies' 0/1 values; ``None`` is unscored.
        after: The same items in the same order; the number of replies may differ.
        level: Nominal coverage of the interval.
        resamples: Bootstrap draws, and sampled sign flips where the exact test is too large.
        seed: Of both.

    Raises:
        ValueError: Different numbers of items, an outcome outside [0, 1], or impossible options.
    """
    check_options(level, resamples)
    if len(before) != len(after):
        raise ValueError(f"{len(before)} items before and {len(after)} after; expected the same items")
    shared = [pair for pair in zip(before, after, strict=True) if _is_scored(pair[0]) and _is_scored(pair[1])]
    excluded = len(before) - len(shared)
    if not shared:
        return PairedResult(None, None, None, None, None, None, None, 0, excluded, 0, 0)
    old, new = (_means([pair[side] for pair in shared]) for side in (0, 1))
    steps = np.round(new - old, DECIMALS)
    rate_before, rate_after = math.fsum(old) / len(old), math.fsum(new) / len(new)
    difference = math.fsum(steps) / len(steps)
    low, high = _interval(steps, difference, level=level, resamples=resamples, seed=seed)
    p_value, test = _test(steps, shared, resamples=resamples, seed=seed)
    rose, fell = int((steps > 0).sum()), int((steps < 0).sum())
    return PairedResult(
        rate_before, rate_after, difference, low, high, p_value, test, len(shared), excluded, rose, fell
    )


def sign_flip_test(
    steps: Floats, *, grid: int = 1, resamples: int = 2000, seed: int = 0
) -> tuple[float, TestName]:
    """Test that the items' differences are symmetric about 0, by flipping their signs.

    Exact where the differences are whole multiples of ``1 / grid`` and the table of all sums fits the
    budget (thousands of items): the distribution of the sum is built item by item, all 2^n sign patterns at
    once. Otherwise signs are sampled and p = (b + 1) / (m + 1), with b of the m sums at least as far from 0
    as the one seen (Phipson and Smyth 2010); then p cannot fall below 1 / (m + 1).

    Args:
        steps: Shape (K,), one difference per item, in [-1, 1].
        grid: A common denominator of the differences.
        resamples: Sampled sign patterns m.
        seed: Of the sampling.

    Returns:
        The two-sided p value and how it was found; 1 if no difference is non-zero.
    """
    sizes = np.abs(steps[steps != 0])
    weights = np.rint(sizes * grid).astype(np.int64)
    on_grid = np.allclose(weights, sizes * grid, atol=1e-6)
    if on_grid and len(weights) * int(weights.sum()) <= _EXACT_WORK:
        return _flip_exactly(weights, int(np.rint(steps.sum() * grid))), "sign-flip exact"
    rng = np.random.default_rng([seed, 1])  # not the stream of the bootstrap
    return _flip_by_sampling(sizes, abs(float(steps.sum())), resamples, rng), "sign-flip sampled"


def _flip_exactly(weights: NDArray[np.int64], total: int) -> float:
    """Return P(|sum of ±weights| >= |total|). With s of the weight positive, the sum is 2 s - all."""
    whole = int(weights.sum())
    chance = np.zeros(whole + 1)
    chance[0] = 1.0
    for weight in np.sort(weights):
        moved = chance * 0.5
        moved[weight:] += 0.5 * chance[: whole + 1 - weight]
        chance = moved
    sums = 2 * np.arange(whole + 1) - whole
    return min(1.0, float(chance[np.abs(sums) >= abs(total)].sum()))


def _flip_by_sampling(sizes: Floats, seen: float, resamples: int, rng: np.random.Generator) -> float:
    """Equal sizes are flipped together: the number of pluses among ``count`` of them is binomial."""
    points, counts = np.unique(np.round(sizes, DECIMALS), return_counts=True)
    step = max(1, _CELLS // max(1, len(points)))
    beyond = 0
    for start in range(0, resamples, step):
        pluses = rng.binomial(counts, 0.5, size=(min(step, resamples - start), len(points)))
        beyond += int((np.abs((2 * pluses - counts) @ points) >= seen - 1e-9).sum())
    return (beyond + 1) / (resamples + 1)


def _is_scored(replies: Sequence[float | None]) -> bool:
    return any(value is not None for value in replies)


def _means(items: Outcomes) -> Floats:
    return np.array([item_mean(item) for item in items], dtype=np.float64)


def _interval(
    steps: Floats, difference: float, *, level: float, resamples: int, seed: int
) -> tuple[float, float]:
    draws = bootstrap_means(steps, low=-1.0, high=1.0, resamples=resamples, rng=np.random.default_rng(seed))
    low, high = percentiles(draws, level)
    return max(-1.0, min(low, difference)), min(1.0, max(high, difference))


def _test(
    steps: Floats,
    shared: Sequence[tuple[Sequence[float | None], Sequence[float | None]]],
    *,
    resamples: int,
    seed: int,
) -> tuple[float, TestName]:
    counts = {sum(value is not None for value in side) for pair in shared for side in pair}
    if counts == {1} and bool(np.isin(steps, (-1.0, 0.0, 1.0)).all()):
        return mcnemar_exact(int((steps > 0).sum()), int((steps < 0).sum())), "mcnemar"
    return sign_flip_test(steps, grid=math.lcm(*counts), resamples=resamples, seed=seed)
