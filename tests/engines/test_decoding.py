"""Tests of the decode loop: what is drawn is what an own row for each continuation would give, at less cost."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests.helpers.tiny_models import ARCHITECTURES, tiny_model
from toxoid.engines.decoding import Continuation, Node, decode
from toxoid.engines.token_choice import choose_tokens, uniforms
from toxoid.errors import ToxoidError, UsageError

LONG = (9, 8, 7, 6, 5, 4, 11, 30, 31, 32, 33, 34, 35, 36, 37)
PROMPTS = [(5, 6, 7), LONG, (40,), (5, 6, 7, 20, 21, 22)]
TEXT = tuple(7 + 11 * i % 101 for i in range(40))
NESTED = [TEXT[:end] for end in (16, 19, 22, 25, 28, 31, 35, 40)]
FRAYED = [TEXT, (*TEXT[:33], 3, 4, 6), (*TEXT[:20], 8), (*TEXT[:17], 12, 13), (*TEXT[:33], 3, 5), (5, 6)]

SIZES = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OTHERS = {
    "gpt2": {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 256},
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 8, "head_dim": 8},
    "jamba": {
        "num_experts": 1,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
    },
}
"""Learned positions; and models that remember more than keys and values."""

each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
each_of_all = pytest.mark.parametrize("architecture", [*ARCHITECTURES, *OTHERS])


def model_of(architecture):
    if architecture in ARCHITECTURES:
        return tiny_model(architecture)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        CONFIG_MAPPING[architecture](**SIZES, **OTHERS[architecture])
    ).eval()


def path(seed=0, index=0, *, tokens=14, temperature=1.0, top_p=1.0, stopped=None):
    draws = uniforms(seed, index, tokens).tolist() if temperature else ()
    return Continuation(tokens, temperature, top_p, draws, stopped)


def run(model, prompts, paths, end_ids=frozenset(), **options):
    """Decode ``paths[i]``, one continuation or several, after ``prompts[i]``; return ids in that order."""
    groups = [group if isinstance(group, list) else [group] for group in paths]
    nodes = [Node(tuple(prompt), group) for prompt, group in zip(prompts, groups, strict=True)]
    count = options.get("max_nodes", len(nodes))
    while nodes:
        nodes = decode(model, nodes[:count], end_ids=end_ids, **options) + nodes[count:]
    return [drawn.ids for group in groups for drawn in group]


def unshared(model, prompt, drawn):
    """Draw one continuation the slow way: the whole text read anew for every token."""
    ids = list(prompt)
    for position in range(drawn.max_tokens):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[:, -1]
        draw = drawn.draws[position] if drawn.draws else 0.0
        settings = torch.tensor([drawn.temperature]), torch.tensor([drawn.top_p])
        ids.append(int(choose_tokens(logits, *settings, torch.tensor([[draw]], dtype=torch.float64))))
    return ids[len(prompt) :]


@contextmanager
def watched(model):
    """Collect the (rows, columns) of every forward pass."""
    shapes = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kw: shapes.append(tuple(kw["input_ids"].shape)), with_kwargs=True
    )
    yield shapes
    hook.remove()


def computed(shapes):
    return sum(rows * columns for rows, columns in shapes)


@each_architecture
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_batched_equals_single(architecture, temperature):
    model = tiny_model(architecture)
    options = {"temperature": temperature, "top_p": 0.9}
    together = run(model, PROMPTS, [path(0, i, **options) for i in range(4)])
    alone = [run(model, [p], [path(0, i, **options)])[0] for i, p in enumerate(PROMPTS)]
    assert together == alone


@each_architecture
def test_greedy_equals_transformers_generate(architecture):
    model = tiny_model(architecture)
    ours = run(model, PROMPTS, [path(temperature=0.0) for _ in PROMPTS])
    for prompt, ids in zip(PROMPTS, ours, strict=True):
        given = torch.tensor([prompt])
        theirs = model.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=14, do_sample=False, eos_token_id=-1
        )
        assert theirs[0, len(prompt) :].tolist() == ids


@each_of_all
def test_shared_nodes_draw_what_own_rows_would(architecture):
    model = model_of(architecture)
    paths = [[path(i, j, tokens=7, temperature=0.9, top_p=0.8) for j in range(3)] for i in range(len(FRAYED))]
    drawn = run(model, FRAYED, paths)
    assert drawn == [unshared(model, FRAYED[i], p) for i, group in enumerate(paths) for p in group]


@each_architecture
def test_greedy_after_a_shared_prefix_equals_the_slow_way(architecture):
    model = tiny_model(architecture)
    drawn = run(model, NESTED, [path(tokens=5, temperature=0.0) for _ in NESTED])
    assert drawn == [unshared(model, prompt, path(tokens=5, temperature=0.0)) for prompt in NESTED]


@each_of_all
@pytest.mark.parametrize("most", [1, 3])
def test_nodes_set_aside_draw_the_same(architecture, most):
    model = model_of(architecture)

    def sample(**options):
        paths = [[path(i, j, tokens=6 + j) for j in range(4)] for i in range(3)]
        return run(model, PROMPTS[:3], paths, **options)

    with watched(model) as shapes:
        assert sample(max_nodes=most) == sample()
    assert min(rows for rows, _ in shapes) == 1


def test_no_more_nodes_are_held_than_allowed():
    model = tiny_model()
    with watched(model) as shapes:
        run(model, PROMPTS, [[path(i, j) for j in range(5)] for i in range(4)], max_nodes=6)
    assert max(rows for rows, _ in shapes) == 6


def test_continuing_a_prefix_equals_teacher_forcing():
    model = tiny_model()
    whole = [*LONG, *run(model, [LONG], [path(temperature=0.0)])[0]]
    with torch.inference_mode():
        best = model(input_ids=torch.tensor([whole])).logits[0].argmax(-1).tolist()
    assert whole[len(LONG) :] == best[len(LONG) - 1 : -1]
    cut = len(LONG) + 5
    assert run(model, [whole[:cut]], [path(temperature=0.0, tokens=9)])[0] == whole[cut:]


def test_every_prompt_is_read_once_for_all_its_continuations():
    model = tiny_model()
    with watched(model) as shapes:
        run(model, [(5, 6, 7)], [[path(3, i, tokens=3) for i in range(4)]])
    assert shapes == [(1, 3), (4, 1), (4, 1)]


def test_continuations_that_agree_are_one_row_until_they_part():
    model = tiny_model(vocab_size=6, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    paths = [path(0, i, tokens=4) for i in range(40)]
    with watched(model) as shapes:
        drawn = run(model, [(3, 4, 5)], [paths])
    distinct = [len({tuple(ids[:length]) for ids in drawn}) for length in (1, 2, 3)]
    assert [rows for rows, _ in shapes] == [1, *distinct]


def test_greedy_continuations_are_one_row():
    model = tiny_model()
    with watched(model) as shapes:
        drawn = run(model, [(5, 6, 7)], [[path(temperature=0.0) for _ in range(9)]])
    assert {rows for rows, _ in shapes} == {1}
    assert all(ids == drawn[0] for ids in drawn)


def test_distinct_tokens_of_nested_prefixes_are_computed_once():
    """Overhead: the last token of each shorter prefix, for its logits; the last token drawn needs no pass."""
    model = tiny_model()
    paths = [[path(i, j, tokens=5, top_p=0.6) for j in range(6)] for i in range(len(NESTED))]
    with watched(model) as shapes:
        run(model, NESTED, paths)
    drawn = {(i, *p.ids[:length]) for i, group in enumerate(paths) for p in group for length in (1, 2, 3, 4)}
    assert computed(shapes) == len(TEXT) + (len(NESTED) - 1) + len(drawn)


def test_prompts_of_one_conversation_share_it():
    model = tiny_model()
    prompts = [TEXT[:30] + tail for tail in ((1, 2, 3), (4, 5, 6, 7), (8, 9, 10))]
    with watched(model) as shapes:
        run(model, prompts, [path(tokens=1)] * 3)
    assert shapes == [(1, 34), (2, 3)]


def test_finished_nodes_leave_the_batch():
    model = tiny_model()
    with watched(model) as shapes:
        run(model, [(5, 6, 7)], [[path(3, i, tokens=1 + i) for i in range(4)]])
    assert [rows for rows, _ in shapes] == [1, 3, 2, 1]


def test_an_end_token_ends_the_continuation_and_is_its_last():
    model = tiny_model()
    free = run(model, [(5, 6, 7)], [path()])[0]
    ended = path()
    decode(model, [Node((5, 6, 7), [ended])], end_ids={free[6]})
    assert ended.ids == free[: free.index(free[6]) + 1]
    assert ended.finish == "stop"


def test_the_limit_ends_the_continuation():
    ended = path(tokens=5)
    decode(tiny_model(), [Node((5, 6, 7), [ended])], end_ids=set())
    assert (len(ended.ids), ended.finish) == (5, "length")


def test_a_stop_test_sees_all_tokens_once_per_node():
    seen = []

    def stopped(ids):
        seen.append(len(ids))
        return len(ids) == 3

    ended = [path(temperature=0.0, stopped=stopped) for _ in range(4)]
    decode(tiny_model(), [Node((5, 6, 7), ended)], end_ids=set())
    assert (seen, {drawn.finish for drawn in ended}) == ([1, 2, 3], {"stop"})


def test_continuations_of_different_settings_share_a_node():
    model = tiny_model()
    settings = [{"temperature": 0.0}, {"temperature": 0.7}, {"top_p": 0.5}, {"temperature": 2.0, "tokens": 3}]
    together = run(model, [(5, 6, 7)], [[path(**s) for s in settings]])
    assert together == [run(model, [(5, 6, 7)], [path(**s)])[0] for s in settings]


@pytest.fixture(scope="module")
def pairs():
    """First two tokens of 4000 continuations after (3, 4, 5) and their exact probabilities, over 12 x 12."""
    model = tiny_model(vocab_size=12, initializer_range=0.5, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    drawn = run(model, [(3, 4, 5)], [[path(11, i, tokens=2) for i in range(4000)]])
    texts = torch.tensor([[3, 4, 5, token] for token in range(12)])
    with torch.inference_mode():
        logits = model(input_ids=texts).logits.double()
    first, second = (torch.softmax(logits[:, place], -1).numpy() for place in (-2, -1))
    return Counter(map(tuple, drawn)), first[:1].T * second


def test_first_and_second_tokens_follow_the_models_distribution(pairs):
    counts, expected = pairs
    for axis in (0, 1):
        observed = np.zeros(12)
        for pair, count in counts.items():
            observed[pair[axis]] += count
        assert chisquare(observed, expected.sum(1 - axis) * 4000).pvalue > 0.001


def test_pairs_of_tokens_follow_the_models_distribution(pairs):
    """Cells with fewer than five expected are pooled."""
    counts, expected = pairs
    observed = np.array([[counts[i, j] for j in range(12)] for i in range(12)])
    often = expected * 4000 >= 5
    seen = [*observed[often], observed[~often].sum()]
    assert chisquare(seen, [*(expected[often] * 4000), expected[~often].sum() * 4000]).pvalue > 0.001


def test_logits_that_are_no_numbers_are_an_error():
    model = tiny_model()
    model.lm_head.weight.data[:] = float("nan")
    with pytest.raises(ToxoidError, match="NaN"):
        decode(model, [Node((5, 6), [path()])], end_ids=set())


def test_a_model_with_state_outside_the_cache_is_refused():
    model = tiny_model()
    model.config.model_type = "recurrent_gemma"
    with pytest.raises(UsageError, match="outside the cache"):
        decode(model, [Node((5, 6), [path()])], end_ids=set())
