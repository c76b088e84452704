"""A gain against a loss, measured on different items: is the difference of the two more than chance?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toxoid.stats.resampling import Floats, bootstrap_means, check_options, percentiles


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left of a gain after the largest of some losses, all in the unit of the items' differences.

    Args:
        gain: Mean of the gains.
        loss: The largest mean loss; below 0 if every side gained.
        worst: The place of that loss among those given.
        net: ``gain - loss``.
        ci_low: Lower end of the interval of ``net``.
        ci_high: Upper end.
    """

    gain: float
    loss: float
    worst: int
    net: float
    ci_low: float
    ci_high: float


def balance(
    gains: Floats, losses: Sequence[Floats], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Balance:
    """Weigh a gain against the largest of some losses.

    In each draw the items of the gain and those of every loss are resampled, with the pseudo items of
    :mod:`toxoid.stats.resampling`, and the largest loss of that draw is taken: where two losses are about as large,
    that counts against the gain. One point of gain weighs as much as one point of loss.

    Args:
        gains: Shape (items,), each item's gain in [-1, 1].
        losses: One or more of the same kind, each with items of its own.
        level: Nominal coverage.
        resamples: Bootstrap draws.
        seed: Of the draws.

    Raises:
        ValueError: No loss, a side without items, or an impossible ``level`` or ``resamples``.
    """
    check_options(level, resamples)
    if not losses or not all(len(side) for side in (gains, *losses)):
        raise ValueError("a side without items; expected gains and at least one loss, each of some items")
    means = [math.fsum(side) / len(side) for side in losses]
    drawn = [
        bootstrap_means(
            side, low=-1.0, high=1.0, resamples=resamples, rng=np.random.default_rng([seed, 3, place])
        )
        for place, side in enumerate((gains, *losses))
    ]
    rng = np.random.default_rng([seed, 4])
    shuffled = [rng.permutation(draws) for draws in drawn]  # draws may come in an order of their own
    low, high = percentiles(shuffled[0] - np.max(shuffled[1:], axis=0), level)
    gain, worst = math.fsum(gains) / len(gains), int(np.argmax(means))
    net = gain - means[worst]
    return Balance(gain, means[worst], worst, net, min(low, net), max(high, net))
