"""Clustered means of counts: exact values, intervals over clusters, pairs."""

from __future__ import annotations

import numpy as np
import pytest

from toxoid.stats.ratios import clustered_means, difference_of_means

TOTALS, COUNTS = np.array([[4.0], [9.0], [2.0]]), np.array([[2.0], [3.0], [1.0]])


def test_the_mean_weighs_values_and_not_clusters():
    assert clustered_means(TOTALS, COUNTS)[0].value == 15 / 6


def test_the_interval_holds_the_mean_and_has_width():
    found = clustered_means(TOTALS, COUNTS)[0]
    assert found.low < found.value < found.high


def test_the_order_of_clusters_makes_no_difference():
    draw = np.random.default_rng(0)
    totals, counts = draw.integers(0, 9, (30, 2)).astype(float), draw.integers(1, 5, (30, 2)).astype(float)
    shuffled = draw.permutation(30)
    assert clustered_means(totals, counts) == clustered_means(totals[shuffled], counts[shuffled])


def test_the_interval_is_as_wide_as_theory_says():
    values = np.random.default_rng(1).normal(10, 2, (400, 1))
    found = clustered_means(values, np.ones_like(values))[0]
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_a_column_without_values_has_no_mean():
    empty = clustered_means(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]))[1]
    assert (empty.value, empty.low, empty.high) == (None, None, None)


def test_a_single_cluster_has_no_interval():
    found = clustered_means(np.array([[3.0], [0.0]]), np.array([[1.0], [0.0]]))[0]
    assert (found.value, found.low, found.high) == (3.0, None, None)


def test_a_difference_is_paired():
    before = np.array([1.0, 20.0, 5.0, 40.0]), np.ones(4)
    after = before[0] - 2, np.ones(4)
    old, new, difference = difference_of_means(before, after)
    assert (old - new, difference.value, difference.low, difference.high) == (2, -2, -2, -2)


def test_a_difference_from_nothing_is_none():
    nothing = np.zeros(3), np.zeros(3)
    assert difference_of_means(nothing, (np.ones(3), np.ones(3)))[2].value is None


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        clustered_means(np.ones((2, 1)), np.ones((3, 1)))
