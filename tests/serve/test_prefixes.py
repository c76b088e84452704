"""What prompts have in common is remembered, within a limit."""

from __future__ import annotations

import torch

from toxoid.engines.kv_cache import KnownPrefix
from toxoid.serve.prefixes import Prefixes

SYSTEM = tuple(range(100, 150))


def prefix(tokens):
    states = torch.zeros(1, 1, len(tokens), 4)
    return KnownPrefix(tuple(tokens), ((states, states),))


SIZE = 2 * 4 * 4
"""Bytes of one token."""


def test_the_longest_prefix_is_found_and_never_the_whole_prompt():
    known = Prefixes(10**6)
    for end in (10, 30, 50):
        known.add(prefix(SYSTEM[:end]), None)
    assert known.find((*SYSTEM, 1), None).tokens == SYSTEM
    assert known.find(SYSTEM, None).tokens == SYSTEM[:30]
    assert known.find((1, *SYSTEM), None) is None


def test_prefixes_of_other_embeddings_are_not_used():
    known, table = Prefixes(10**6), torch.zeros(2, 4)
    known.add(prefix(SYSTEM), table)
    assert known.find((*SYSTEM, 1), None) is None
    assert known.find((*SYSTEM, 1), torch.zeros(2, 4)) is None
    assert known.find((*SYSTEM, 1), table) is not None


def test_what_two_prompts_begin_with_is_worth_remembering():
    known = Prefixes(10**6)
    assert known.shared((*SYSTEM, 1, 2, 3), None, 0) == 0
    assert known.shared((9, 9, 9), None, 0) == 0
    assert known.shared((*SYSTEM, 4, 5), None, 0) == len(SYSTEM)
    assert known.shared((*SYSTEM, 4, 6), None, len(SYSTEM)) == 0  # nearly all of it is known


def test_a_repeated_prompt_is_worth_all_but_its_last_token():
    known = Prefixes(10**6)
    known.shared(SYSTEM, None, 0)
    assert known.shared(SYSTEM, None, 0) == len(SYSTEM) - 1


def test_the_limit_holds_and_what_was_used_last_stays():
    known = Prefixes(100 * SIZE)
    first, second = ((name, *SYSTEM[:39]) for name in (1, 2))
    known.add(prefix(first), None)
    known.add(prefix(second), None)
    assert known.size == 80 * SIZE
    known.find((*first, 0), None)
    known.add(prefix((3, *SYSTEM[:39])), None)
    assert known.size == 80 * SIZE
    assert known.find((*first, 0), None) is not None
    assert known.find((*second, 0), None) is None


def test_what_is_larger_than_the_limit_is_not_remembered():
    known = Prefixes(10 * SIZE)
    known.add(prefix(SYSTEM), None)
    assert known.size == 0
