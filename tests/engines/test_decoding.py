"""Tests of the decode loop and of the choice of tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from tests.helpers.tiny_models import ARCHITECTURES, tiny_model
from toxoid.engines import decoding
from toxoid.engines.decoding import Row, choose_tokens, decode, uniforms
from toxoid.errors import ToxoidError

PROMPTS = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 11, 30, 31, 32, 33, 34, 35, 36, 37], [40], [5, 6, 7, 20, 21, 22]]
each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def row(prompt=0, *, seed=0, index=0, tokens=14, temperature=1.0, top_p=1.0, stopped=None):
    draws = uniforms(seed, index, tokens) if temperature else np.zeros(0)
    return Row(prompt, tokens, temperature, top_p, draws, stopped)


def run(model, prompts, rows, end_ids=frozenset()):
    decode(model, prompts, rows, end_ids=end_ids)
    return [row.ids for row in rows]


def pick(probabilities, draw, *, temperature=1.0, top_p=1.0):
    logits = torch.tensor([probabilities], dtype=torch.float64).log().float()
    return int(
        choose_tokens(
            logits,
            torch.tensor([temperature]),
            torch.tensor([top_p]),
            torch.tensor([draw], dtype=torch.float64),
        )
    )


@each_architecture
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_batched_equals_single(architecture, temperature):
    model = tiny_model(architecture)
    options = {"temperature": temperature, "top_p": 0.9}
    together = run(model, PROMPTS, [row(i, index=i, **options) for i in range(4)])
    alone = [run(model, [p], [row(0, index=i, **options)])[0] for i, p in enumerate(PROMPTS)]
    assert together == alone


@each_architecture
def test_greedy_equals_transformers_generate(architecture):
    model = tiny_model(architecture)
    ours = run(model, PROMPTS, [row(i, temperature=0.0) for i in range(4)])
    for prompt, ids in zip(PROMPTS, ours, strict=True):
        given_ids = torch.tensor([prompt])
        theirs = model.generate(
            given_ids,
            attention_mask=torch.ones_like(given_ids),
            max_new_tokens=14,
            do_sample=False,
            eos_token_id=-1,
        )
        assert theirs[0, len(prompt) :].tolist() == ids


@each_architecture
def test_continuing_a_prefix_equals_teacher_forcing(architecture):
    model = tiny_model(architecture)
    whole = PROMPTS[1] + run(model, [PROMPTS[1]], [row(temperature=0.0)])[0]
    with torch.inference_mode():
        best = model(input_ids=torch.tensor([whole])).logits[0].argmax(-1).tolist()
    assert whole[len(PROMPTS[1]) :] == best[len(PROMPTS[1]) - 1 : -1]
    cut = len(PROMPTS[1]) + 5
    assert run(model, [whole[:cut]], [row(temperature=0.0, tokens=9)])[0] == whole[cut:]


@each_architecture
def test_rows_of_one_prompt_equal_rows_of_repeated_prompts(architecture):
    model = tiny_model(architecture)
    shared = run(model, PROMPTS[:2], [row(i % 2, index=i) for i in range(6)])
    repeated = run(model, [PROMPTS[i % 2] for i in range(6)], [row(i, index=i) for i in range(6)])
    assert shared == repeated


@each_architecture
@pytest.mark.parametrize("share", [1, 10**9])
def test_when_finished_rows_leave_changes_nothing(architecture, share, monkeypatch):
    model = tiny_model(architecture)

    def sample():
        return run(model, PROMPTS, [row(i % 4, index=i, tokens=2 + 3 * i) for i in range(6)])

    usual = sample()
    monkeypatch.setattr(decoding, "_DROP_SHARE", share)
    assert sample() == usual


def test_every_prompt_is_read_once(monkeypatch):
    model = tiny_model()
    shapes = []
    model.register_forward_pre_hook(
        lambda _, args, kw: shapes.append(tuple(kw["input_ids"].shape)), with_kwargs=True
    )
    run(model, [[5, 6, 7]], [row(index=i, tokens=3) for i in range(4)])
    assert shapes == [(1, 3), (4, 1), (4, 1)]


def test_finished_rows_leave_the_batch():
    model = tiny_model()
    widths = []
    model.register_forward_pre_hook(lambda _, args, kw: widths.append(len(kw["input_ids"])), with_kwargs=True)
    run(model, [[5, 6, 7]], [row(index=i, tokens=1 + i) for i in range(4)])
    assert widths == [1, 3, 2, 1]


def test_an_end_token_ends_the_row_and_is_its_last():
    model = tiny_model()
    free = run(model, [[5, 6, 7]], [row()])[0]
    ended = row()
    decode(model, [[5, 6, 7]], [ended], end_ids={free[6]})
    assert ended.ids == free[: free.index(free[6]) + 1]
    assert ended.finish == "stop"


def test_the_limit_ends_the_row():
    ended = row(tokens=5)
    decode(tiny_model(), [[5, 6, 7]], [ended], end_ids=set())
    assert (len(ended.ids), ended.finish) == (5, "length")


def test_a_stop_test_sees_all_tokens_and_ends_the_row():
    seen = []
    ended = row(stopped=lambda ids: seen.append(len(ids)) or len(ids) == 3)
    decode(tiny_model(), [[5, 6, 7]], [ended], end_ids=set())
    assert (seen, ended.finish) == ([1, 2, 3], "stop")


def test_rows_of_different_settings_share_a_batch():
    model = tiny_model()
    settings_ = [
        {"temperature": 0.0},
        {"temperature": 0.7},
        {"top_p": 0.5},
        {"temperature": 2.0, "tokens": 3},
    ]
    together = run(model, [[5, 6, 7]], [row(**s) for s in settings_])
    assert together == [run(model, [[5, 6, 7]], [row(**s)])[0] for s in settings_]


def test_sampled_tokens_follow_the_models_distribution():
    model = tiny_model(vocab_size=12, initializer_range=0.5, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    with torch.inference_mode():
        expected = torch.softmax(
            model(input_ids=torch.tensor([[3, 4, 5]])).logits[0, -1].double(), -1
        ).numpy()
    drawn = run(model, [[3, 4, 5]], [row(seed=11, index=i, tokens=1) for i in range(4000)])
    counts = np.bincount([ids[0] for ids in drawn], minlength=12)
    assert chisquare(counts, expected * 4000).pvalue > 0.001


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


def test_temperature_sharpens_by_the_power_law():
    """p ** (1 / T): 0.2, 0.8 at T = 0.5 is 0.04 : 0.64, so token 0 has 1/17."""
    assert pick([0.2, 0.8], 1 / 17 - 0.001, temperature=0.5) == 0
    assert pick([0.2, 0.8], 1 / 17 + 0.001, temperature=0.5) == 1


def test_logits_that_are_no_numbers_are_an_error():
    with pytest.raises(ToxoidError, match="NaN"):
        pick([0.5, float("nan")], 0.5)
