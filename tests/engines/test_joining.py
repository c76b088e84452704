"""Nodes that join a running batch draw what they draw alone, and so do those that they join."""

from __future__ import annotations

import random

import pytest
import torch

from tests.engines.test_contrast_decoding import SETTINGS
from tests.engines.test_decoding import path
from tests.helpers.tiny_models import tiny_model
from toxoid.engines.contrast import UNCONTRASTED
from toxoid.engines.decoding import Batch, Node, Reading, decode

CONTRASTS = {"none": UNCONTRASTED, **SETTINGS}
NOBODY = frozenset()


def nodes_of(contrast, seed, count=5):
    """Nodes of one or two continuations, with prompts of unlike lengths, drawn by a seed."""
    rng = random.Random(seed)
    nodes = []
    for index in range(count):
        prompt, other = (tuple(rng.randrange(4, 120) for _ in range(rng.randint(1, 40))) for _ in range(2))
        options = {"tokens": rng.randint(1, 18), "temperature": rng.choice([0.0, 1.0])}
        paths = [path(seed, 10 * index + i, **options) for i in range(rng.randint(1, 2))]
        nodes.append(Node(prompt, paths, against=None if contrast is UNCONTRASTED else other))
    return nodes


def drawn(nodes):
    return [(each.ids, each.finish, each.contrasted) for node in nodes for each in node.continuations]


def join(model, nodes, reading, seed):
    """Decode nodes that join one or two at a time, after a few steps each."""
    rng = random.Random(seed)
    waiting, batch, children = list(nodes), None, []
    while waiting or children:
        if children:
            batch.forward(children)
        if waiting and (not children or rng.random() < 0.3):
            new = Batch(
                model, [waiting.pop() for _ in range(min(len(waiting), rng.randint(1, 2)))], None, reading
            )
            batch = new if not children else joined(batch, new, rng)
        children = batch.split(NOBODY)


def joined(batch, new, rng):
    rows, other = batch.source.rows, new.source.rows
    length = max(rows.length - rng.randint(0, min(rows.starts)), other.length)
    rows.resize(128, length + 40, length)
    batch.join(new)
    return batch


@pytest.mark.parametrize("contrast", CONTRASTS.values(), ids=CONTRASTS)
@pytest.mark.parametrize("seed", range(2))
def test_joining_changes_nothing(contrast, seed):
    model, reading = tiny_model(), Reading(contrast)
    alone = nodes_of(contrast, seed)
    for node in alone:
        decode(model, [node], end_ids=NOBODY, reading=reading)
    together = nodes_of(contrast, seed)
    with torch.inference_mode():
        join(model, together, reading, seed)
    assert drawn(together) == drawn(alone)


@pytest.mark.parametrize("architecture", ["qwen3", "mistral", "gemma2", "gemma3_text"])
def test_joining_changes_nothing_in_any_architecture(architecture):
    model, reading = tiny_model(architecture), Reading(SETTINGS["all"])
    alone, together = nodes_of(SETTINGS["all"], 1), nodes_of(SETTINGS["all"], 1)
    for node in alone:
        decode(model, [node], end_ids=NOBODY, reading=reading)
    with torch.inference_mode():
        join(model, together, reading, 1)
    assert drawn(together) == drawn(alone)


def test_a_node_without_continuations_leaves():
    model = tiny_model()
    nodes = [Node((5, 6, 7), [path(0)]), Node((8, 9), [path(1)])]
    with torch.inference_mode():
        batch = Batch(model, nodes, None, Reading())
        nodes[0].continuations = []
        children = batch.split(NOBODY)
        assert [row for row, _ in children] == [1 if batch.nodes[1] is nodes[1] else 0]
        batch.forward(children)
    assert len(batch.source.logits) == 1


def test_what_was_not_a_number_in_a_row_does_not_spoil_who_takes_its_place():
    model = tiny_model()
    with torch.inference_mode():
        batch = Batch(model, [Node(tuple(range(5, 25)), [path(0)])], None, Reading())
        rows = batch.source.rows
        rows.resize(4, 64, rows.length)
        for layer in rows.cache.past.layers:
            layer.keys[1:] = layer.values[1:] = torch.nan
        batch.join(Batch(model, [Node((8, 9), [path(1)])], None, Reading()))
        batch.forward(batch.split(NOBODY))
    assert not batch.source.logits.isnan().any()
