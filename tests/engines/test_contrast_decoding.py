"""Decoding in two contexts: what is drawn is what two separate passes over the whole text would give."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.engines.test_decoding import NESTED, OTHERS, model_of, path, run, watched
from tests.helpers.tiny_models import ARCHITECTURES, tiny_model
from toxoid.engines.contrast import PUBLISHED, Contrast, contrasted, implausible, total_variation
from toxoid.engines.contrast_decoding import passed
from toxoid.engines.decoding import Gate, Node, Reading, decode
from toxoid.engines.forward import read_prefix
from toxoid.engines.soft_prompt import embed
from toxoid.engines.token_choice import choose_tokens

PAIRS = [
    ((5, 6, 7, 8, 9), (15, 16, 17)),
    ((9, 8, 7, 6, 5, 4, 11, 30, 31, 32, 33, 34), (9, 8, 50, 51, 52, 53, 54, 33, 34)),
    ((40,), (41, 42, 43, 44, 45, 46)),
]
"""Prompts of unlike lengths in their two contexts."""

MASKED = Contrast(alpha=0.4, plausibility=0.3)
SETTINGS = {
    "published": PUBLISHED,
    "masked": MASKED,
    "first": replace(MASKED, first=3),
    "divergence": replace(MASKED, divergence=0.4),
    "unmasked divergence": Contrast(plausibility=0.0, divergence=0.4),
    "all": replace(MASKED, first=9, divergence=0.3),
}
each_setting = pytest.mark.parametrize("contrast", SETTINGS.values(), ids=SETTINGS)


def draw(model, pairs, paths, contrast, *, count=None, table=None, known=(), **options):
    """Decode ``paths[i]`` (one or several) after the pair ``i``, at most ``count`` pairs at a time."""
    groups = [group if isinstance(group, list) else [group] for group in paths]
    nodes = [Node(one, group, against=other) for (one, other), group in zip(pairs, groups, strict=True)]
    reading = Reading(contrast, table, known)
    while nodes:
        now, nodes = nodes[:count], nodes[count:] if count else []
        nodes = decode(model, now, end_ids=frozenset(), reading=reading, **options) + nodes
    return [(drawn.ids, drawn.contrasted) for group in groups for drawn in group]


def slowly(model, pair, drawn, contrast):
    """Draw one continuation by reading both whole texts anew for every token."""
    ids, gate = [], Gate()
    for position in range(drawn.max_tokens):
        above, below = (last_logits(model, (*prompt, *ids)) for prompt in pair)
        removed = implausible(above, contrast.plausibility)
        free = removed is None or int((~removed).sum()) > 1
        looked = free and gate.wait == 0 and (contrast.first is None or position < contrast.first)
        far = contrast.divergence is None or float(total_variation(above, below)) >= contrast.divergence
        used = looked and far
        logits = contrasted(above, below, contrast) if used else above
        gate = passed(gate, contrast, free=free, looked=looked, used=used)
        if removed is not None:
            logits = logits.masked_fill(removed, -torch.inf)
        draw = torch.tensor([[drawn.draws[position] if drawn.draws else 0.0]], dtype=torch.float64)
        settings = torch.tensor([drawn.temperature]), torch.tensor([drawn.top_p])
        ids.append(int(choose_tokens(logits, *settings, draw)))
    return ids, gate.contrasted


def last_logits(model, ids):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[:, -1]


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *OTHERS])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_batch_of_unlike_prompts_equals_two_separate_passes(architecture, temperature):
    model = model_of(architecture)
    found = draw(model, PAIRS, [path(i, temperature=temperature) for i in range(3)], MASKED)
    assert found == [
        slowly(model, pair, path(i, temperature=temperature), MASKED) for i, pair in enumerate(PAIRS)
    ]


@each_setting
@pytest.mark.parametrize("seed", range(4))
def test_every_setting_equals_two_separate_passes(contrast, seed):
    model = tiny_model("llama")
    found = draw(model, PAIRS, [path(seed + i, tokens=24) for i in range(3)], contrast)
    assert found == [slowly(model, pair, path(seed + i, tokens=24), contrast) for i, pair in enumerate(PAIRS)]


@each_setting
def test_continuations_that_share_nodes_draw_what_they_would_alone(contrast):
    model = tiny_model("llama")
    together = draw(model, PAIRS, [[path(i, k) for k in range(6)] for i in range(3)], contrast)
    alone = [draw(model, [PAIRS[i]], [path(i, k)], contrast)[0] for i in range(3) for k in range(6)]
    assert together == alone


@each_setting
def test_nodes_set_aside_draw_the_same(contrast):
    model = tiny_model("llama")
    paths = [[path(i, k) for k in range(4)] for i in range(3)]
    free = draw(model, PAIRS, paths, contrast)
    paths = [[path(i, k) for k in range(4)] for i in range(3)]
    assert draw(model, PAIRS, paths, contrast, count=3, max_nodes=3) == free


def test_prompts_that_share_beginnings_are_contrasted_all_the_same():
    model = tiny_model("llama")
    pairs = [(prompt, (99, *prompt)) for prompt in NESTED]
    found = draw(model, pairs, [path(i) for i in range(len(pairs))], MASKED)
    assert found == [slowly(model, pair, path(i), MASKED) for i, pair in enumerate(pairs)]


def test_without_strength_it_is_the_positive_context_alone():
    model = tiny_model("llama")
    nothing = Contrast(alpha=0.0, plausibility=0.0)
    found = draw(model, PAIRS, [path(i) for i in range(3)], nothing)
    assert [ids for ids, _ in found] == run(model, [one for one, _ in PAIRS], [path(i) for i in range(3)])


def test_equal_contexts_change_nothing():
    model = tiny_model("llama")
    same = [(one, one) for one, _ in PAIRS]
    found = draw(model, same, [path(i) for i in range(3)], Contrast(alpha=0.4, plausibility=0.0))
    assert [ids for ids, _ in found] == run(model, [one for one, _ in PAIRS], [path(i) for i in range(3)])


def test_the_mask_works_in_one_context():
    model = tiny_model("llama")
    reading = Reading(Contrast(alpha=0.0, plausibility=1.0))
    sampled = run(model, [one for one, _ in PAIRS], [path(i) for i in range(3)], reading=reading)
    assert sampled == run(model, [one for one, _ in PAIRS], [path(i, temperature=0.0) for i in range(3)])


def soft(model):
    """Return a table of virtual tokens and the ids of a soft prompt of four of them."""
    layer = model.get_input_embeddings()
    table = torch.randn(4, layer.embedding_dim, generator=torch.Generator().manual_seed(3))
    return table, tuple(range(layer.num_embeddings, layer.num_embeddings + 4))


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "mistral", "gemma", "phi3"])
def test_virtual_tokens_are_read_as_their_vectors(architecture):
    model = tiny_model(architecture)
    table, ids = soft(model)
    prompt = (1, *ids, 5, 6, 7)
    found = run(model, [prompt], [path(temperature=0.0)], reading=Reading(table=table))[0]
    with torch.inference_mode():
        whole = torch.tensor([[*prompt, *found]])
        logits = model(inputs_embeds=embed(model, whole, table), use_cache=False).logits[0]
    assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == found


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma", "mamba"])
def test_a_prefix_read_before_changes_nothing(architecture):
    model = model_of(architecture)
    table, ids = soft(model)
    pairs = [((1, *ids[:2], *one), (1, *ids[2:], *other)) for one, other in PAIRS]
    prefixes = [read_prefix(model, (1, *half), table) for half in (ids[:2], ids[2:])]
    known = [prefix for prefix in prefixes if prefix is not None]
    paths = [[path(i) for i in range(3)] for _ in range(2)]
    with_known, without = (
        draw(model, pairs, each, MASKED, table=table, known=found)
        for each, found in zip(paths, (known, ()), strict=True)
    )
    assert with_known == without


def test_a_prefix_read_before_is_not_read_again():
    model = tiny_model("llama")
    prefix = tuple(range(20, 40))
    known = [read_prefix(model, prefix)]
    with watched(model) as shapes:
        draw(model, [((*prefix, 5, 6), (*prefix, 7, 8))], [path(tokens=1)], MASKED, known=known)
    assert shapes == [(2, 2)]


def test_both_contexts_go_through_the_model_in_one_pass():
    model = tiny_model("llama")
    with watched(model) as shapes:
        draw(model, PAIRS[:1], [path(tokens=5)], PUBLISHED)
    assert shapes[-4:] == [(2, 1)] * 4


def test_after_the_last_contrasted_token_one_context_is_left():
    model = tiny_model("llama")
    with watched(model) as shapes:
        draw(model, PAIRS[:1], [path(tokens=9)], replace(PUBLISHED, first=2))
    assert shapes[-7:] == [(1, 1)] * 7


def test_what_was_missed_is_read_in_one_pass():
    model = tiny_model("llama")
    contrast = Contrast(plausibility=0.0, divergence=1.0)
    with watched(model) as shapes:
        draw(model, PAIRS[:1], [path(tokens=30)], contrast)
    caught_up = [columns for rows, columns in shapes[1:] if columns > 1]
    assert caught_up == [2, 4, 8]  # looks at tokens 1, 2, 4, 8, 16 and then every 16


def test_contexts_that_catch_up_go_on_in_one_pass():
    model = tiny_model("llama")
    with watched(model) as shapes:
        draw(model, PAIRS[:1], [path(tokens=4)], Contrast(plausibility=0.0, divergence=1.0))
    assert shapes[-3:] == [(2, 1), (1, 1), (2, 2)]


def test_where_much_would_be_read_again_the_other_context_catches_up_alone():
    model = tiny_model("llama")
    pairs = [((40, i), (41, i)) for i in range(40)]
    with watched(model) as shapes:
        draw(model, pairs, [path(i, tokens=4) for i in range(40)], Contrast(plausibility=0.0, divergence=1.0))
    assert shapes[-4:] == [(80, 1), (40, 1), (40, 1), (40, 2)]


def test_the_contrasted_tokens_are_counted():
    model = tiny_model("llama")
    assert draw(model, PAIRS[:1], [path(tokens=9)], replace(PUBLISHED, first=4))[0][1] == 4
    assert draw(model, PAIRS[:1], [path(tokens=9)], PUBLISHED)[0][1] == 9


def test_a_look_without_divergence_doubles_the_pause_up_to_sixteen():
    gate, contrast = Gate(), Contrast(divergence=0.5)
    waits = []
    for _ in range(6):
        gate = replace(passed(gate, contrast, free=True, looked=True, used=False))
        waits.append(gate.wait)
        gate = replace(gate, wait=0)
    assert waits == [0, 1, 3, 7, 15, 15]
    assert passed(gate, contrast, free=True, looked=True, used=True).interval == 0
