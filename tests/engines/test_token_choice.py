"""Tests of the random streams and of the choice of tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from toxoid.engines.token_choice import choose_tokens, uniforms
from toxoid.errors import ToxoidError


def pick(probabilities, draw, *, temperature=1.0, top_p=1.0):
    logits = torch.tensor([probabilities], dtype=torch.float64).log().float()
    return int(
        choose_tokens(
            logits,
            torch.tensor([temperature]),
            torch.tensor([top_p]),
            torch.tensor([[draw]], dtype=torch.float64),
        )
    )


def test_streams_are_uniform_and_unlike():
    streams = np.stack([uniforms(seed, index, 500) for seed in (0, 1) for index in (0, 1)])
    assert chisquare(np.histogram(streams, bins=20, range=(0, 1))[0]).pvalue > 0.001
    assert abs(np.corrcoef(streams) - np.eye(4)).max() < 0.2


@given(st.integers(-(2**63), 2**64 - 1), st.integers(0, 10**6), st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_a_longer_stream_begins_with_the_shorter(seed, index, count):
    assert (uniforms(seed, index, count + 7)[:count] == uniforms(seed, index, count)).all()


@given(st.floats(0, 1, exclude_max=True))
@settings(max_examples=60, deadline=None)
def test_the_draw_is_inverted_on_the_cumulated_probabilities(draw):
    expected = 1 if draw < 0.2499 else 2 if 0.2501 < draw < 0.7499 else 4 if draw > 0.7501 else None
    assert pick([0.0, 0.25, 0.5, 0.0, 0.25, 0.0], draw) in ({expected} if expected else {1, 2, 4})


@pytest.mark.parametrize("draw", [0.0, np.nextafter(1.0, 0.0)])
def test_an_impossible_token_is_never_chosen_at_the_ends(draw):
    assert pick([0.0, 0.5, 0.5, 0.0], draw) in {1, 2}


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0.3, {1}), (0.5, {1}), (0.51, {1, 2}), (0.8, {1, 2}), (0.81, {0, 1, 2}), (1.0, {0, 1, 2, 3})],
)
def test_the_nucleus_is_the_smallest_set_that_reaches_top_p(top_p, kept):
    probabilities = [0.125, 0.5, 0.3, 0.075]
    assert {pick(probabilities, (k + 0.5) / 200, top_p=top_p) for k in range(200)} == kept


def test_equally_probable_tokens_stay_in_the_nucleus_together():
    assert {pick([0.3, 0.3, 0.3, 0.1], (k + 0.5) / 100, top_p=0.4) for k in range(100)} == {0, 1, 2}


def test_a_low_temperature_approaches_greedy():
    assert {pick([0.3, 0.4, 0.3], (k + 0.5) / 50, temperature=0.02) for k in range(50)} == {1}


@pytest.mark.parametrize("temperature", [5e-324, 1e-38, 1e-6, 9e-5])
def test_below_the_coldest_temperature_a_row_is_greedy_however_large_its_logits(temperature):
    logits = torch.tensor([[1e4, 1e4, -1e4, -torch.inf], [0.0, 1e-3, 0.0, 0.0]])
    draws = torch.tensor([[0.1, 0.9], [0.1, 0.9]], dtype=torch.float64)
    chosen = choose_tokens(logits, torch.tensor([temperature, temperature]), torch.ones(2), draws)
    assert chosen.tolist() == [[0, 0], [1, 1]]


def test_temperature_sharpens_by_the_power_law():
    """p ** (1 / T): 0.2, 0.8 at T = 0.5 is 0.04 : 0.64, so token 0 has 1/17."""
    assert pick([0.2, 0.8], 1 / 17 - 0.001, temperature=0.5) == 0
    assert pick([0.2, 0.8], 1 / 17 + 0.001, temperature=0.5) == 1


def test_logits_that_are_no_numbers_are_an_error():
    with pytest.raises(ToxoidError, match="NaN"):
        pick([0.5, float("nan")], 0.5)


def test_draws_of_one_row_are_inverted_on_the_same_probabilities():
    logits = torch.tensor([[0.25, 0.25, 0.5], [0.5, 0.5, 0.0]]).log()
    draws = torch.tensor([[0.1, 0.3, 0.9], [0.1, 0.3, 0.9]], dtype=torch.float64)
    chosen = choose_tokens(logits, torch.ones(2), torch.ones(2), draws)
    assert chosen.tolist() == [[0, 1, 2], [0, 0, 1]]


def test_greedy_rows_beside_sampled_ones_ignore_their_draws():
    logits = torch.tensor([[0.4, 0.6], [0.4, 0.6]]).log()
    draws = torch.full((2, 3), 0.1, dtype=torch.float64)
    chosen = choose_tokens(logits, torch.tensor([0.0, 1.0]), torch.ones(2), draws)
    assert chosen.tolist() == [[1, 1, 1], [0, 0, 0]]
