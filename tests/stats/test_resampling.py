"""The bootstrap engine: equality with the slow obvious version, mirror symmetry, indifference to chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toxoid.stats import resampling
from toxoid.stats.resampling import bootstrap_means


def draws(values, *, low=0.0, high=1.0, resamples=200, seed=0):
    rng = np.random.default_rng(seed)
    return bootstrap_means(np.array(values), low=low, high=high, resamples=resamples, rng=rng)


def test_draws_are_distributed_like_items_picked_one_by_one():
    values = np.random.default_rng(3).integers(0, 6, 30) / 5
    population = np.array([*values, 0.0, 1.0])
    picks = np.random.default_rng(4).integers(0, len(population), (40_000, len(population)))
    slow, fast = population[picks].mean(axis=1), draws(values, resamples=40_000)
    shares = [0.025, 0.25, 0.5, 0.75, 0.975]
    assert np.quantile(fast, shares) == pytest.approx(np.quantile(slow, shares), abs=0.006)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([-1.0, -0.6, -0.2, 0.0, 0.2, 1 / 3, 1.0]), min_size=1, max_size=20))
def test_mirrored_values_give_mirrored_draws(values):
    here = np.sort(draws(values, low=-1.0, resamples=21))
    there = np.sort(-draws([-value for value in values], low=-1.0, resamples=21))
    assert here == pytest.approx(there, abs=1e-9)


def test_size_of_the_chunks_does_not_change_the_draws(monkeypatch):
    values = np.random.default_rng(5).random(40)
    whole = draws(values)
    monkeypatch.setattr(resampling, "_CELLS", 100)
    assert draws(values) == pytest.approx(whole, abs=1e-12)
