"""Rates and their intervals: equality with the oracles, invariances, the ends, coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from toxoid.stats.intervals import clustered_rate, wilson_interval

REPLIES = st.lists(st.sampled_from([0.0, 1.0, None]), max_size=5)
ITEMS = st.lists(REPLIES, max_size=12)


def flipped(items):
    return [[None if value is None else 1.0 - value for value in item] for item in items]


@settings(deadline=None)
@given(n=st.integers(1, 500), share=st.floats(0, 1), level=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_equals_statsmodels(n, share, level):
    k = round(share * n)
    expected = proportion_confint(k, n, alpha=1 - level, method="wilson")
    assert wilson_interval(k, n, level=level) == pytest.approx(expected, abs=1e-9)


def test_wilson_without_trials_knows_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(k, n):
    with pytest.raises(ValueError, match="trials"):
        wilson_interval(k, n)


def test_every_item_weighs_the_same():
    rate = clustered_rate([[1.0] * 9, [0.0]])
    assert rate.rate == 0.5


def test_unscored_replies_are_counted_and_bounded_but_not_guessed():
    rate = clustered_rate([[1.0, None], [0.0, 0.0], [None]])
    assert rate.rate == 0.5
    assert (rate.n_items, rate.n_scored, rate.n_unscored) == (3, 3, 2)
    assert rate.low_bound == pytest.approx(0.5 / 3)
    assert rate.high_bound == pytest.approx(2 / 3)


def test_no_items_give_no_rate():
    rate = clustered_rate([])
    assert (rate.rate, rate.ci_low, rate.ci_high, rate.low_bound, rate.high_bound) == (None,) * 5


def test_all_unscored_gives_no_rate_and_the_widest_bounds():
    rate = clustered_rate([[None, None], [None]])
    assert (rate.rate, rate.ci_low, rate.n_unscored) == (None, None, 3)
    assert (rate.low_bound, rate.high_bound) == (0.0, 1.0)


def test_no_hits_still_leave_room_above():
    rate = clustered_rate([[0.0] * 5] * 50)
    assert (rate.rate, rate.ci_low) == (0.0, 0.0)
    assert rate.ci_high == pytest.approx(3 / 52)


def test_only_hits_still_leave_room_below():
    rate = clustered_rate([[1.0] * 5] * 50)
    assert (rate.rate, rate.ci_high) == (1.0, 1.0)
    assert rate.ci_low == pytest.approx(1 - 3 / 52)


def test_several_replies_per_item_do_not_narrow_the_interval_if_they_are_all_alike():
    once, often = clustered_rate([[1.0], [0.0]] * 20), clustered_rate([[1.0] * 5, [0.0] * 5] * 20)
    assert (once.ci_low, once.ci_high) == (often.ci_low, often.ci_high)


def test_single_replies_come_close_to_wilson():
    rate = clustered_rate([[1.0]] * 60 + [[0.0]] * 140, resamples=20_000)
    assert (rate.ci_low, rate.ci_high) == pytest.approx(wilson_interval(60, 200), abs=0.006)


@settings(max_examples=40, deadline=None)
@given(items=ITEMS, seed=st.integers(0, 99))
def test_estimate_lies_within_its_interval_and_its_bounds(items, seed):
    rate = clustered_rate(items, resamples=50, seed=seed)
    if rate.rate is not None:
        assert 0.0 <= rate.ci_low <= rate.rate <= rate.ci_high <= 1.0
        assert rate.low_bound <= rate.rate + 1e-12
        assert rate.rate <= rate.high_bound + 1e-12


@settings(max_examples=40, deadline=None)
@given(items=ITEMS, random=st.randoms())
def test_order_of_items_and_replies_does_not_matter(items, random):
    shuffled = [random.sample(item, len(item)) for item in random.sample(items, len(items))]
    assert clustered_rate(shuffled, resamples=50) == clustered_rate(items, resamples=50)


@settings(max_examples=40, deadline=None)
@given(items=ITEMS)
def test_names_of_the_outcomes_do_not_matter(items):
    one, other = clustered_rate(items, resamples=50), clustered_rate(flipped(items), resamples=50)
    if one.rate is None:
        assert other.rate is None
    else:
        mirrored = (1 - other.rate, 1 - other.ci_high, 1 - other.ci_low)
        assert (one.rate, one.ci_low, one.ci_high) == pytest.approx(mirrored, abs=1e-9)


def test_same_seed_gives_the_same_interval_and_another_seed_another():
    items = [[1.0] * hits + [0.0] * (17 - hits) for hits in (0, 1, 1, 3, 5, 11)] * 5
    assert clustered_rate(items, seed=1) == clustered_rate(items, seed=1)
    assert clustered_rate(items, seed=1) != clustered_rate(items, seed=2)


@pytest.mark.parametrize("value", [2.0, -0.1, float("nan")])
def test_outcomes_outside_the_range_are_refused(value):
    with pytest.raises(ValueError, match="expected 0, 1 or None"):
        clustered_rate([[value]])


@pytest.mark.parametrize("options", [{"level": 1.0}, {"level": 95}, {"resamples": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        clustered_rate([[1.0]], **options)


def coverage(true_rate, correlation, *, prompts=50, generations=5, runs=500):
    """Return how often the clustered and the pooled interval hold the true rate.

    Each prompt has its own chance of a hit, beta(a, b); the intra-prompt correlation is 1 / (a + b + 1).
    """
    rng = np.random.default_rng(20)
    strength = 1 / correlation - 1
    clustered = pooled = 0
    for run in range(runs):
        chances = rng.beta(true_rate * strength, (1 - true_rate) * strength, prompts)
        hits = (rng.random((prompts, generations)) < chances[:, None]).astype(float)
        rate = clustered_rate(hits.tolist(), resamples=600, seed=run)
        low, high = wilson_interval(int(hits.sum()), hits.size)
        clustered += rate.ci_low <= true_rate <= rate.ci_high
        pooled += low <= true_rate <= high
    return clustered / runs, pooled / runs


@pytest.mark.parametrize("true_rate", [0.3, 0.5])
def test_clustered_interval_covers_what_it_promises_and_the_pooled_one_does_not(true_rate):
    clustered, pooled = coverage(true_rate, 0.4)
    assert 0.93 <= clustered <= 0.97
    assert pooled < 0.85


def test_interval_of_a_rare_failure_never_covers_less_than_it_promises():
    clustered, pooled = coverage(0.04, 0.4)
    assert clustered >= 0.94
    assert pooled < 0.9
