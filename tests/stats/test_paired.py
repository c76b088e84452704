"""Paired comparison: equality with the oracles and the slow obvious version, symmetry, degenerate cases."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test
from statsmodels.stats.contingency_tables import mcnemar

from toxoid.stats import paired
from toxoid.stats.paired import mcnemar_exact, paired_difference, sign_flip_test

REPLIES = st.lists(st.sampled_from([0.0, 1.0, None]), max_size=4)
PAIRS = st.lists(st.tuples(REPLIES, REPLIES), min_size=1, max_size=10)


def flips(up, down, same=0):
    """Return (before, after) of single replies with the given numbers of flips."""
    before = [[0.0]] * up + [[1.0]] * down + [[0.0]] * same
    return before, [[1.0]] * up + [[0.0]] * down + [[0.0]] * same


@settings(deadline=None)
@given(b=st.integers(0, 60), c=st.integers(0, 60))
def test_mcnemar_equals_statsmodels(b, c):
    expected = mcnemar([[7, b], [c, 3]], exact=True).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(ValueError, match="at least 0"):
        mcnemar_exact(-1, 3)


@settings(deadline=None)
@given(b=st.integers(0, 40), c=st.integers(0, 40))
def test_sign_flip_test_of_single_flips_is_mcnemar(b, c):
    p_value, test = sign_flip_test(np.array([1.0] * b + [-1.0] * c))
    assert test == "sign-flip exact"
    assert p_value == pytest.approx(mcnemar_exact(b, c), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_exact_sign_flip_equals_trying_all_signs(fifths):
    sums = [
        sum(s * v for s, v in zip(signs, fifths, strict=True))
        for signs in product((1, -1), repeat=len(fifths))
    ]
    expected = sum(abs(total) >= abs(sum(fifths)) for total in sums) / len(sums)
    assert sign_flip_test(np.array(fifths) / 5, grid=5)[0] == pytest.approx(expected, abs=1e-12)


def test_exact_sign_flip_equals_scipy():
    steps = np.array([0.4, -0.2, 0.6, 0.2, 0.8, -0.4, 0.2, 0.6])
    expected = permutation_test((steps,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip_test(steps, grid=5)[0] == pytest.approx(expected, abs=1e-12)


def test_sampled_sign_flip_comes_close_to_the_exact_one(monkeypatch):
    steps = np.random.default_rng(1).integers(-4, 6, 40) / 5
    exact, _ = sign_flip_test(steps, grid=5)
    monkeypatch.setattr(paired, "_EXACT_WORK", 0)
    sampled, test = sign_flip_test(steps, grid=5, resamples=40_000)
    assert test == "sign-flip sampled"
    assert sampled == pytest.approx(exact, abs=0.01)


def test_sampled_p_value_is_never_zero():
    steps = np.linspace(0.5, 0.6, 60)
    assert sign_flip_test(steps, resamples=99) == (pytest.approx(0.01), "sign-flip sampled")


def test_size_of_the_chunks_does_not_change_the_p_value(monkeypatch):
    steps = np.random.default_rng(2).normal(0.05, 0.3, 30)
    whole = sign_flip_test(steps, resamples=500)
    monkeypatch.setattr(paired, "_CELLS", 100)
    assert sign_flip_test(steps, resamples=500) == whole


def test_single_replies_are_tested_by_mcnemar():
    result = paired_difference(*flips(12, 3, 35))
    assert (result.test, result.p_value) == ("mcnemar", mcnemar_exact(12, 3))
    assert (result.rose, result.fell, result.n_items) == (12, 3, 50)
    assert result.difference == pytest.approx(9 / 50)


def test_several_replies_are_tested_by_sign_flips():
    result = paired_difference([[0.0, 1.0]] * 8, [[1.0, 1.0]] * 8)
    assert (result.test, result.p_value) == ("sign-flip exact", pytest.approx(2 / 2**8))
    assert (result.before, result.after, result.difference) == (0.5, 1.0, 0.5)


def test_numbers_of_replies_may_differ_between_the_sides():
    result = paired_difference([[0.0, 0.0, 1.0]] * 6, [[1.0, 0.0]] * 6)
    assert result.difference == pytest.approx(1 / 6)
    assert result.p_value == pytest.approx(2 / 2**6)


def test_items_unscored_on_one_side_are_excluded_and_counted():
    result = paired_difference([[1.0], [None], [0.0], []], [[0.0], [1.0], [None], [1.0]])
    assert (result.n_items, result.n_excluded) == (1, 3)
    assert (result.before, result.after) == (1.0, 0.0)


@pytest.mark.parametrize("items", [[], [[None]]])
def test_nothing_shared_gives_no_numbers(items):
    result = paired_difference(items, [[1.0]] * len(items))
    assert (result.before, result.difference, result.ci_low, result.p_value, result.test) == (None,) * 5


def test_different_numbers_of_items_are_refused():
    with pytest.raises(ValueError, match="the same items"):
        paired_difference([[1.0]], [])


def test_no_change_at_all_does_not_claim_certainty():
    result = paired_difference(*flips(0, 0, 50))
    assert result.p_value == 1.0
    assert (result.ci_low, result.ci_high) == pytest.approx((-3 / 52, 3 / 52))


def test_all_items_changed_alike_do_not_claim_certainty():
    result = paired_difference(*flips(20, 0))
    assert (result.difference, result.ci_high) == (1.0, 1.0)
    assert 0.5 < result.ci_low < 0.9


def test_interval_of_no_change_narrows_with_the_number_of_items():
    widths = [paired_difference(*flips(0, 0, n)).ci_high for n in (10, 50, 250, 1250)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.003


@settings(max_examples=50, deadline=None)
@given(PAIRS)
def test_swapping_the_sides_flips_the_sign(pairs):
    before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    one = paired_difference(before, after, resamples=40)
    other = paired_difference(after, before, resamples=40)
    assume(one.difference is not None)
    assert (one.difference, one.ci_low, one.ci_high) == pytest.approx(
        (-other.difference, -other.ci_high, -other.ci_low), abs=1e-9
    )
    assert one.p_value == pytest.approx(other.p_value, abs=1e-12)
    assert (one.rose, one.fell) == (other.fell, other.rose)


@settings(max_examples=50, deadline=None)
@given(pairs=PAIRS, random=st.randoms())
def test_order_of_the_items_does_not_matter(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    one = paired_difference(*zip(*pairs, strict=True), resamples=40)
    assert paired_difference(*zip(*shuffled, strict=True), resamples=40) == one


@settings(max_examples=50, deadline=None)
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_difference_lies_within_its_interval(pairs, seed):
    result = paired_difference(*zip(*pairs, strict=True), resamples=40, seed=seed)
    assume(result.difference is not None)
    assert -1.0 <= result.ci_low <= result.difference <= result.ci_high <= 1.0
    assert result.ci_low < result.ci_high
    assert result.after - result.before == pytest.approx(result.difference, abs=1e-9)


def test_interval_of_the_difference_covers_what_it_promises():
    """A treatment that cures two of five items for good, seen through 5 replies to each of 50 items."""
    rng = np.random.default_rng(8)
    runs, covered = 400, 0
    for run in range(runs):
        chances = rng.beta(0.75, 0.75, 50)
        cured = rng.random(50) < 0.4
        before = rng.random((50, 5)) < chances[:, None]
        after = rng.random((50, 5)) < np.where(cured, 0.0, chances)[:, None]
        result = paired_difference(
            before.astype(float).tolist(), after.astype(float).tolist(), resamples=500, seed=run
        )
        covered += result.ci_low <= -0.2 <= result.ci_high
    assert 0.93 <= covered / runs <= 0.98
