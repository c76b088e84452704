"""The prefill attack: the target first, own openers otherwise."""

from __future__ import annotations

import pytest

from toxoid.attacks.prefill import MAX_WORDS, Prefill, opener_of
from toxoid.data.schemas import Request


def test_target_is_the_prefill():
    request = Request("set/1", "x", target="Sure, here is the false oath")
    prompt = Prefill().apply(request, seed=0)[0]
    assert (prompt.variant, prompt.prefill) == ("target", "Sure, here is the false oath")


def test_own_openers_follow_the_target():
    request = Request("set/1", "x", target="Sure, here is the false oath")
    variants = [prompt.variant for prompt in Prefill(variants=3).apply(request, seed=0)]
    assert variants[0] == "target"
    assert len(set(variants)) == 3


def test_without_target_an_own_opener_is_taken():
    prompt = Prefill().apply(Request("set/1", "x"), seed=0)[0]
    assert prompt.prefill
    assert prompt.variant != "target"


@pytest.mark.parametrize("pool", ["evaluation", "training"])
def test_no_opener_ends_in_a_space_that_would_split_a_token(pool):
    openers = [
        prompt.prefill for prompt in Prefill(variants=4, pool=pool).apply(Request("set/1", "x"), seed=0)
    ]
    assert all(opener == opener.rstrip() for opener in openers)


@pytest.mark.parametrize(
    ("target", "opener"),
    [
        ("Sure, here it is", "Sure, here it is"),
        ("Sure. First take a coin.", "Sure."),
        (" Here are steps:\n1. Take a coin", "Here are steps:"),
        ("word " * 60, " ".join(["word"] * MAX_WORDS)),
    ],
)
def test_opener_is_the_first_sentence_cut_after_some_words(target, opener):
    assert opener_of(target) == opener
