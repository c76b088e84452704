"""Minimum detectable effect: against simulation, and the directions in which it must move."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, norm

from toxoid.stats.paired import paired_difference
from toxoid.stats.power import difference_variance, minimum_detectable_effect


def effect(n_items=100, replies=5, base_rate=0.5, *, correlation=0.3, **options):
    return minimum_detectable_effect(
        n_items, replies, base_rate, intra_cluster_correlation=correlation, **options
    )


def test_simulated_comparison_finds_the_effect_about_as_often_as_asked():
    """Chances of an item before and after: beta variables tied at correlation 0.5 by a Gaussian copula."""
    n, m, before, icc, runs = 100, 5, 0.5, 0.3, 300
    after, strength = before + effect(n, m, before, correlation=icc), 1 / icc - 1
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(runs):
        first = rng.standard_normal(n)
        second = 0.5 * first + np.sqrt(0.75) * rng.standard_normal(n)
        hits = [
            (rng.random((n, m)) < beta.ppf(norm.cdf(z), p * strength, (1 - p) * strength)[:, None]).astype(
                float
            )
            for z, p in ((first, before), (second, after))
        ]
        found += paired_difference(hits[0].tolist(), hits[1].tolist(), resamples=1).p_value < 0.05
    assert 0.72 <= found / runs <= 0.88


def test_without_correlation_it_is_the_textbook_size_of_two_proportions():
    """From 0.5 to 0.6 at power 0.8 takes 385 per group (unpooled normal formula: 7.849 * 0.49 / 0.01)."""
    assert effect(385, 1, 0.5, correlation=0.0) == pytest.approx(0.1, abs=0.002)


def test_variance_of_one_sided_flips_is_the_least_for_single_replies():
    variance = difference_variance(0.5, 0.3, 1, intra_cluster_correlation=1.0, before_after_correlation=1.0)
    assert variance == pytest.approx(0.2 - 0.04)


@pytest.mark.parametrize("more", [{"n_items": 200}, {"replies": 10}, {"correlation": 0.1}, {"power": 0.6}])
def test_more_information_or_less_ambition_shows_a_smaller_effect(more):
    assert effect(**more) < effect()


def test_rates_at_equal_distance_from_the_middle_are_alike():
    assert effect(base_rate=0.9) == pytest.approx(effect(base_rate=0.1))


def test_too_few_items_show_nothing():
    assert effect(2, 1) == 1.0


@pytest.mark.parametrize(
    "wrong", [{"n_items": 0}, {"base_rate": 1.2}, {"correlation": -0.1}, {"power": 1.0}, {"alpha": 0.0}]
)
def test_impossible_plans_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        effect(**wrong)
