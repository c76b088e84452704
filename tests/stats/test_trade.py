"""The balance of a gain and its losses."""

import numpy as np
import pytest

from toxoid.stats.trade import balance


def steps(rate, items, seed):
    return np.random.default_rng(seed).binomial(1, rate, items).astype(float)


def test_the_net_is_the_gain_less_the_largest_loss():
    found = balance(np.array([1.0, 0.0]), [np.array([0.0, 0.5]), np.array([1.0, 1.0])])
    assert (found.gain, found.loss, found.worst, found.net) == (0.5, 1.0, 1, -0.5)
    assert found.ci_low <= found.net <= found.ci_high


@pytest.mark.parametrize("losses", [1, 2])
def test_the_interval_covers_a_true_net(losses):
    """Gain 0.5 against losses of 0.2: the net is 0.3; with two equal losses the interval may only lie lower."""
    hits = 0
    for seed in range(200):
        lost = [steps(0.2, 60, (seed, place)) for place in range(losses)]
        found = balance(steps(0.5, 60, (seed, 9)), lost, resamples=300, seed=seed)
        hits += found.ci_low <= 0.3
        assert found.ci_high - found.ci_low < 0.5
    assert hits >= 190


def test_same_seed_same_interval():
    given = steps(0.4, 30, 1), [steps(0.1, 30, 2)]
    assert balance(*given) == balance(*given)


def test_no_loss_and_no_items_are_refused():
    with pytest.raises(ValueError, match="without items"):
        balance(np.ones(3), [])
    with pytest.raises(ValueError, match="without items"):
        balance(np.ones(0), [np.ones(2)])
