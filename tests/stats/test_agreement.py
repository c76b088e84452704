"""Agreement of a judge with human labels: equality with the oracles, what is undefined, what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from statsmodels.stats.inter_rater import cohens_kappa

from toxoid.stats.agreement import (
    Estimate,
    area_under_roc,
    binary_agreement,
    cohen_kappa,
    expected_calibration_error,
)
from toxoid.stats.intervals import wilson_interval

UNDEFINED = Estimate(None, None, None)
COUNTS = st.integers(0, 40)


@settings(deadline=None)
@given(size=st.integers(2, 4), data=st.data())
def test_kappa_and_its_interval_equal_statsmodels(size, data):
    rows = data.draw(st.lists(st.lists(COUNTS, min_size=size, max_size=size), min_size=size, max_size=size))
    table = np.array(rows)
    assume((table.sum(axis=0) > 0).all() and (table.sum(axis=1) > 0).all())
    expected, got = cohens_kappa(table), cohen_kappa(rows)
    variance = max(0.0, expected.var_kappa)
    assert got.value == pytest.approx(expected.kappa, abs=1e-9)
    assert got.ci_low == pytest.approx(max(-1.0, expected.kappa - 1.959964 * variance**0.5), abs=1e-5)
    assert got.ci_high == pytest.approx(min(1.0, expected.kappa + 1.959964 * variance**0.5), abs=1e-5)


@pytest.mark.parametrize("table", [[[0, 0], [0, 0]], [[9, 0], [0, 0]]])
def test_kappa_is_undefined_without_two_labels(table):
    assert cohen_kappa(table) == UNDEFINED


def test_kappa_refuses_tables_that_are_not_square():
    with pytest.raises(ValueError, match="square"):
        cohen_kappa([[1, 2, 3], [4, 5, 6]])


def test_counts_and_shares_are_those_of_the_four_cells():
    judge, human = [1] * 8 + [0] * 2 + [0] * 15 + [1] * 5, [1] * 10 + [0] * 20
    result = binary_agreement(judge, human)
    assert (result.tp, result.fn, result.tn, result.fp) == (8, 2, 15, 5)
    assert result.accuracy == Estimate(23 / 30, *wilson_interval(23, 30))
    assert result.sensitivity == Estimate(0.8, *wilson_interval(8, 10))
    assert result.specificity == Estimate(0.75, *wilson_interval(15, 20))


def test_unscored_verdicts_are_counted_and_left_out():
    result = binary_agreement([1, None, 0, None], [1, 1, 0, 0], scores=[0.9, 0.1, 0.2, 0.8])
    assert (result.n, result.n_unscored) == (2, 2)
    assert (result.accuracy.value, result.auroc) == (1.0, 1.0)


def test_shares_of_nothing_are_undefined():
    result = binary_agreement([0, 1], [0, 0])
    assert result.sensitivity == UNDEFINED
    assert result.specificity.value == 0.5
    assert binary_agreement([], []).accuracy == UNDEFINED


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_renaming_the_labels_swaps_sensitivity_and_specificity(pairs):
    one = binary_agreement([j for j, _ in pairs], [h for _, h in pairs])
    other = binary_agreement([not j for j, _ in pairs], [not h for _, h in pairs])
    assert (one.sensitivity, one.specificity) == (other.specificity, other.sensitivity)
    assert one.accuracy == other.accuracy


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=40))
def test_area_under_roc_equals_mann_whitney(pairs):
    scores, labels = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    hits, misses = scores[labels == 1], scores[labels == 0]
    assume(len(hits) and len(misses))
    expected = mannwhitneyu(hits, misses, method="asymptotic").statistic / (len(hits) * len(misses))
    assert area_under_roc(scores, labels) == pytest.approx(expected)


def test_area_under_roc_needs_both_labels():
    assert area_under_roc(np.array([0.1, 0.9]), np.array([1.0, 1.0])) is None


def test_calibration_error_is_the_mean_gap_over_bins():
    """Bin 0.9-1.0: claims 0.95, 1 of 2 are hits, gap 0.45; bin 0.1-0.2: claims 0.1, none is, gap 0.1."""
    claimed, labels = np.array([0.95, 0.95, 0.1, 0.1]), np.array([1.0, 0.0, 0.0, 0.0])
    assert expected_calibration_error(claimed, labels) == pytest.approx((0.45 + 0.1) / 2)


def test_certainty_that_is_right_has_no_calibration_error():
    result = binary_agreement([1, 0], [1, 0], scores=[1.0, 0.0], scores_are_probabilities=True)
    assert result.ece == 0.0


def test_scores_are_not_taken_for_probabilities_unasked():
    result = binary_agreement([1, 0], [1, 0], scores=[7.0, -3.0])
    assert (result.auroc, result.ece) == (1.0, None)


def test_scores_outside_the_range_are_no_probabilities():
    with pytest.raises(ValueError, match="outside"):
        binary_agreement([1, 0], [1, 0], scores=[7.0, -3.0], scores_are_probabilities=True)


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="differ in number"):
        binary_agreement([1, 0], [1])


def test_verdicts_other_than_the_three_are_refused():
    with pytest.raises(ValueError, match="0, 1 or None"):
        binary_agreement([0.5], [1])
