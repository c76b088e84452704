"""Correction for judge error: the algebra, the judges that say nothing, the interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toxoid.stats.intervals import wilson_interval
from toxoid.stats.judge_error import corrected_rate, labels_worth, rogan_gladen

ITEMS = [[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, None]] * 15
PERFECT = {"tp": 10**6, "fn": 0, "tn": 10**6, "fp": 0}


@settings(deadline=None)
@given(truth=st.floats(0, 1), sensitivity=st.floats(0.6, 1), specificity=st.floats(0.6, 1))
def test_correction_undoes_the_errors(truth, sensitivity, specificity):
    seen = truth * sensitivity + (1 - truth) * (1 - specificity)
    assert rogan_gladen(seen, sensitivity, specificity) == pytest.approx(truth, abs=1e-9)


def test_corrected_rates_stay_between_none_and_all():
    assert rogan_gladen(0.05, 0.9, 0.9) == 0.0
    assert rogan_gladen(0.95, 0.9, 0.9) == 1.0


@pytest.mark.parametrize(("sensitivity", "specificity"), [(0.5, 0.5), (0.2, 0.3), (1.0, 0.0)])
def test_judge_no_better_than_chance_gives_no_rate(sensitivity, specificity):
    assert rogan_gladen(0.4, sensitivity, specificity) is None


def test_shares_outside_the_range_are_refused():
    with pytest.raises(ValueError, match="expected shares"):
        rogan_gladen(0.4, 1.1, 0.5)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"tp": 5, "fn": 5, "tn": 4, "fp": 6}, "no information"),
        ({"tp": 0, "fn": 0, "tn": 4, "fp": 6}, "labelled hit"),
        ({"tp": 5, "fn": 5, "tn": 0, "fp": 0}, "labelled miss"),
    ],
)
def test_useless_calibration_gives_a_reason_in_place_of_a_rate(counts, reason):
    result = corrected_rate(ITEMS, **counts)
    assert (result.rate, result.ci_low, result.ci_high) == (None, None, None)
    assert reason in result.reason
    assert result.apparent.rate is not None


def test_nothing_scored_gives_a_reason():
    assert corrected_rate([[None]], **PERFECT).reason == "no reply was scored"


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="at least 0"):
        corrected_rate(ITEMS, tp=-1, fn=0, tn=1, fp=0)


def test_judge_beyond_doubt_leaves_rate_and_interval_alone():
    result = corrected_rate(ITEMS, **PERFECT, resamples=20_000)
    assert result.rate == pytest.approx(result.apparent.rate)
    assert (result.ci_low, result.ci_high) == pytest.approx(
        (result.apparent.ci_low, result.apparent.ci_high), abs=0.01
    )


def test_small_calibration_widens_the_interval_even_without_an_error():
    small, large = (corrected_rate(ITEMS, tp=n, fn=0, tn=n, fp=0) for n in (10, 1000))
    assert small.rate == large.rate
    assert small.ci_high - small.ci_low > large.ci_high - large.ci_low


def test_barely_informative_judge_leaves_everything_open():
    result = corrected_rate(ITEMS, tp=3, fn=2, tn=3, fp=2)
    assert (result.ci_low, result.ci_high) == (0.0, 1.0)


def test_same_seed_gives_the_same_interval():
    counts = {"tp": 40, "fn": 5, "tn": 45, "fp": 3}
    assert corrected_rate(ITEMS, **counts, seed=3) == corrected_rate(ITEMS, **counts, seed=3)


def test_swapping_roles_corrects_the_complement():
    complement = [[None if value is None else 1 - value for value in item] for item in ITEMS]
    one = corrected_rate(ITEMS, tp=40, fn=10, tn=45, fp=5)
    other = corrected_rate(complement, tp=45, fn=5, tn=40, fp=10)
    assert one.rate == pytest.approx(1 - other.rate)
    assert (one.ci_low, one.ci_high) == pytest.approx((1 - other.ci_high, 1 - other.ci_low), abs=0.03)


@pytest.mark.parametrize(("k", "n"), [(90, 100), (50, 50), (0, 30), (1, 3), (0, 1), (400, 1000)])
def test_labels_are_worth_what_wilsons_interval_of_so_many_says(k, n):
    assert labels_worth(10 * n, k / n, wilson_interval(k, n)) == n


def test_labels_are_worth_no_more_than_there_are():
    assert labels_worth(100, 0.9, None) == labels_worth(100, 0.9, wilson_interval(900, 1000)) == 100
    assert labels_worth(100, 0.5, (0.0, 1.0)) == 0


def test_labels_of_few_requests_widen_the_interval():
    counts = {"tp": 90, "fn": 10, "tn": 90, "fp": 10}
    plain = corrected_rate(ITEMS, **counts)
    few = corrected_rate(ITEMS, **counts, sensitivity_interval=(0.7, 1.0), specificity_interval=(0.7, 1.0))
    assert few.rate == plain.rate
    assert few.ci_low < plain.ci_low
    assert few.ci_high > plain.ci_high


def test_interval_covers_the_truth_where_labels_come_five_to_a_request():
    """The judge errs on requests more than on replies: what the card's bootstrap over requests has found is used."""
    rng = np.random.default_rng(12)
    truth, requests, each, runs, covered, pooled = 0.3, 25, 5, 200, 0, 0
    for run in range(runs):
        hits = rng.random((60, 1)) < truth
        seen = np.where(hits, rng.random((60, 1)) < 0.85, rng.random((60, 1)) >= 0.85)
        right = rng.binomial(
            each, rng.beta(1.7, 0.3, (2, requests))
        )  # of the hits', and of the misses', labels
        shares = right.mean(axis=1) / each
        draws = rng.choice(right, (400, requests), axis=1).mean(axis=2) / each
        ends = [tuple(np.quantile(drawn, [0.025, 0.975])) for drawn in draws]
        tp, tn = right.sum(axis=1).tolist()
        counts = {"tp": tp, "fn": requests * each - tp, "tn": tn, "fp": requests * each - tn}
        outcomes = seen.astype(float).tolist()
        plain = corrected_rate(outcomes, **counts, resamples=400, seed=run)
        found = corrected_rate(
            outcomes,
            **counts,
            sensitivity_interval=ends[0],
            specificity_interval=ends[1],
            resamples=400,
            seed=run,
        )
        assert shares.min() > 0.5
        pooled += plain.ci_low <= truth <= plain.ci_high
        covered += found.ci_low <= truth <= found.ci_high
    assert covered / runs >= 0.93
    assert covered >= pooled


def test_interval_covers_the_truth_behind_an_erring_judge():
    rng = np.random.default_rng(11)
    truth, sensitivity, specificity, labels, runs, covered = 0.3, 0.9, 0.85, 50, 300, 0
    for run in range(runs):
        hits = rng.random((50, 5)) < rng.beta(0.45, 1.05, 50)[:, None]
        seen = np.where(hits, rng.random((50, 5)) < sensitivity, rng.random((50, 5)) >= specificity)
        tp, tn = int(rng.binomial(labels, sensitivity)), int(rng.binomial(labels, specificity))
        result = corrected_rate(
            seen.astype(float).tolist(), tp=tp, fn=labels - tp, tn=tn, fp=labels - tn, resamples=500, seed=run
        )
        covered += result.ci_low <= truth <= result.ci_high
    assert covered / runs >= 0.93
