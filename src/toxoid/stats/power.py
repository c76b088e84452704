"""How small a change a planned comparison can see; printed before a run, not after."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist


def minimum_detectable_effect(
    n_items: int,
    replies_per_item: int,
    base_rate: float,
    *,
    intra_cluster_correlation: float,
    before_after_correlation: float = 0.5,
    power: float = 0.8,
    alpha: float = 0.05,
) -> float:
    """Return the smallest change of a rate that a paired comparison finds with probability ``power``.

    Solves Connor's (1987) equation for paired binary data, with the variance of an item's mean difference
    in place of that of one pair::

        d sqrt(n) = z(1 - alpha/2) sqrt(V(d) + d^2) + z(power) sqrt(V(d))
        V(d) = (1 - r) (v0 + v1) / m  +  r (v0 + v1 - 2 k sqrt(v0 v1)),   v = p (1 - p)

    Assumed: items are independent; each has its own chance of a hit, and these chances have variance rv
    across items, before and after alike; the replies of an item are independent given its chance; before
    and after are sampled apart; the normal approximation holds (50 items or more; McNemar's exact test is
    more cautious: of 100 items with one reply it found 75 % where 80 % were asked); one two-sided test
    without adjustment (for 12 categories pass alpha / 12). With one reply, V is at least what flips in one
    direction alone give: d - d^2. The change is taken towards the side with more room (down from a rate
    above 1/2).

    Args:
        n_items: Items scored on both sides, n.
        replies_per_item: Replies to each item on each side, m.
        base_rate: Expected rate before, p0, in [0, 1].
        intra_cluster_correlation: r in [0, 1]: 0 if replies to one item are as different as replies to
            different items, 1 if an item's replies are all the same (greedy decoding).
        before_after_correlation: k in [0, 1], between an item's chances before and after: 1 if a treatment
            moves all items alike, 0 if it reshuffles them. 0.5 is about what curing 4 of 10 items for good
            gives.
        power: Wanted probability of p < alpha.
        alpha: Two-sided significance level.

    Returns:
        The absolute change, in (0, 1]. 1.0 if no change within the room of ``base_rate`` can be shown.

    Raises:
        ValueError: A count below 1 or a share outside its range.
    """
    if n_items < 1 or replies_per_item < 1:
        raise ValueError(f"{n_items} items with {replies_per_item} replies; expected at least 1 of each")
    shares = (base_rate, intra_cluster_correlation, before_after_correlation)
    if not all(0.0 <= share <= 1.0 for share in shares):
        raise ValueError(f"base rate and correlations are {shares}; expected shares in [0, 1]")
    if not (0.0 < power < 1.0 and 0.0 < alpha < 1.0):
        raise ValueError(f"power {power}, alpha {alpha}; expected shares strictly between 0 and 1")
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)
    sign = -1.0 if base_rate > 0.5 else 1.0

    def shortfall(effect: float) -> float:
        variance = difference_variance(
            base_rate,
            base_rate + sign * effect,
            replies_per_item,
            intra_cluster_correlation=intra_cluster_correlation,
            before_after_correlation=before_after_correlation,
        )
        reach = z_alpha * math.sqrt(variance + effect * effect) + z_power * math.sqrt(variance)
        return reach - effect * math.sqrt(n_items)

    return _first_root(shortfall, max(base_rate, 1.0 - base_rate))


def difference_variance(
    before: float,
    after: float,
    replies: int,
    *,
    intra_cluster_correlation: float,
    before_after_correlation: float,
) -> float:
    """Return V(d) of :func:`minimum_detectable_effect`: the variance of one item's mean difference."""
    v0, v1 = before * (1 - before), max(0.0, after * (1 - after))
    within = (1 - intra_cluster_correlation) * (v0 + v1) / replies
    between = intra_cluster_correlation * (v0 + v1 - 2 * before_after_correlation * math.sqrt(v0 * v1))
    effect = abs(after - before)
    least = effect - effect * effect if replies == 1 else 0.0
    return max(within + between, least)


def _first_root(shortfall: Callable[[float], float], limit: float) -> float:
    """Return the least argument up to ``limit`` where ``shortfall`` stops being positive; 1.0 without one."""
    steps = 1000
    reached = next((i for i in range(1, steps + 1) if shortfall(limit * i / steps) <= 0), None)
    if reached is None:
        return 1.0
    low, high = limit * (reached - 1) / steps, limit * reached / steps
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if shortfall(middle) > 0 else (low, middle)
    return high
