from __future__ import annotations

import random

import numpy as np
import pytest

from toxoid.training.preference.trie import build_trie, first_fit, joined


def random_replies(seed: int) -> tuple[list[int], list[list[int]]]:
    """Return a context and sequences over three tokens: many shared prefixes, some equal, some nested."""
    draw = random.Random(seed)
    context = [draw.randrange(3) for _ in range(draw.randint(1, 4))]
    return context, [
        [draw.randrange(3) for _ in range(draw.randint(1, 8))] for _ in range(draw.randint(1, 7))
    ]


@pytest.mark.parametrize("seed", range(40))
def test_a_path_is_the_context_and_its_reply(seed: int):
    context, replies = random_replies(seed)
    trie = build_trie(context, replies)
    for path, reply in zip(trie.paths, replies, strict=True):
        assert trie.tokens[path].tolist() == reply
        assert trie.depths[path].tolist() == list(range(len(context), len(context) + len(reply)))
        assert trie.parents[path].tolist() == [len(context) - 1, *path[:-1].tolist()]
    assert trie.tokens[: len(context)].tolist() == context


@pytest.mark.parametrize("seed", range(40))
def test_intervals_are_ancestry(seed: int):
    trie = build_trie(*random_replies(seed))
    for node in range(len(trie)):
        ancestors, at = set(), node
        while at >= 0:
            ancestors.add(at)
            at = int(trie.parents[at])
        assert {j for j in range(len(trie)) if j <= node < trie.ends[j]} == ancestors


@pytest.mark.parametrize("seed", range(20))
def test_every_distinct_prefix_is_one_node(seed: int):
    context, replies = random_replies(seed)
    prefixes = {tuple(reply[:end]) for reply in replies for end in range(1, len(reply) + 1)}
    assert len(build_trie(context, replies)) == len(context) + len(prefixes)


def test_the_order_of_replies_does_not_matter():
    context, replies = random_replies(3)
    forth, back = build_trie(context, replies), build_trie(context, replies[::-1])
    assert np.array_equal(forth.tokens, back.tokens)
    assert [path.tolist() for path in forth.paths] == [path.tolist() for path in back.paths[::-1]]


def test_joined_tries_are_numbered_on():
    parts = [build_trie(*random_replies(seed)) for seed in (1, 2)]
    whole, first = joined(parts), len(parts[0])
    assert np.array_equal(whole.ends[first:], parts[1].ends + first)
    assert whole.parents[first] == -1
    assert all(
        np.array_equal(a, b + first) for a, b in zip(whole.paths[-1:], parts[1].paths[-1:], strict=True)
    )


@pytest.mark.parametrize("seed", range(10))
def test_rows_are_filled_up_to_their_capacity(seed: int):
    draw = random.Random(seed)
    sizes = [draw.randint(1, 50) for _ in range(20)]
    bins = first_fit(sizes, 60)
    assert sorted(item for row in bins for item in row) == list(range(20))
    assert all(sum(sizes[item] for item in row) <= 60 for row in bins)
    assert sum(sum(sizes[item] for item in row) <= 30 for row in bins) <= 1


def test_what_is_too_long_for_a_row_has_one_of_its_own():
    assert first_fit([70, 10, 90, 20], 30) == [[2], [0], [3, 1]]
