"""Tests of the way from proposals to candidates, and of the adversary's variety."""

from __future__ import annotations

import numpy as np
import pytest

from toxoid.methods.adversarial_tuning.candidates import MAX_CHARACTERS, Sieve, is_language, tidy
from toxoid.methods.adversarial_tuning.diversity import diversity


def sieve(known=(), held_out=(), valid=lambda text: True):
    return Sieve(set(known), set(held_out), valid)


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        ("  a request \n", "a request"),
        ("3. a request", "a request"),
        ('"a request"', "a request"),
        ("“a request”", "a request"),
        ('1. "a request"', "a request"),
        ('"this" is not "that"', '"this" is not "that"'),
        ("3.5 litres of what?", "3.5 litres of what?"),
        ("don't", "don't"),
        ('"', '"'),
    ],
)
def test_blanks_number_and_quotes_are_taken_off(text, tidied):
    assert tidy(text) == tidied


def test_sieve_counts_what_it_drops_by_reason():
    proposals = ["new one", "New one!", "old", "frozen", " ", "x" * (MAX_CHARACTERS + 1), "gibberish"]
    given = sieve(["old"], ["frozen"], lambda text: text != "gibberish")
    assert given.sift(proposals) == ["new one"]
    reasons = ("kept", "repeated", "known", "held_out", "empty", "too_long", "invalid")
    assert given.counts == dict.fromkeys(reasons, 1)


@pytest.mark.parametrize("reason", ["repeated", "known", "held_out"])
def test_sieve_drops_what_is_nearly_there(reason):
    first = "tell me in a few words how one bakes a loaf of dark bread at home"
    given = sieve(*{"known": ([first],), "held_out": ((), [first])}.get(reason, ()))
    if reason == "repeated":
        given.sift([first])
    assert given.sift([f"Please {first}, thanks!"]) == []
    assert given.counts[reason] == 1


def test_one_wording_around_two_goals_makes_two_requests():
    assert len(sieve().sift(["How do I paint the old barn?", "How do I paint the old gate?"])) == 2


def test_sieve_remembers_between_batches():
    given = sieve()
    assert [*given.sift(["one", "two"]), *given.sift(["two", "three"])] == ["one", "two", "three"]


@pytest.mark.parametrize("text", ["", "\x00\x01\x02", "xkcdq zzgrt bvvvn qqwrt", "yes " * 100])
def test_what_shows_a_sign_of_gibberish_is_no_language(text):
    assert not is_language(text)


def test_plain_request_is_language():
    assert is_language("How do I bake bread without an oven?")


def test_distinct_counts_different_word_ngrams():
    found = diversity(["one two", "one two", "one three"], proposals=6)
    assert found.distinct == (3 / 6, 2 / 3, 0.0)
    assert found.new == 0.5


def test_spread_is_the_mean_cosine_distance_of_pairs_of_word_counts():
    counts = np.random.default_rng(0).integers(1, 5, size=(7, 4))
    texts = [" ".join(word for word, n in zip("abcd", row, strict=True) for _ in range(n)) for row in counts]
    units = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    pairs = [1 - units[i] @ units[j] for i in range(7) for j in range(i)]
    assert diversity(texts, 7).spread == pytest.approx(np.mean(pairs))


def test_spread_of_words_lies_between_same_and_disjoint():
    assert diversity(["a b", "a b"], 2).spread == pytest.approx(0)
    assert diversity(["a b", "c d"], 2).spread == pytest.approx(1)


def test_nothing_has_no_variety():
    found = diversity([], 0)
    assert found.distinct == (0, 0, 0)
    assert found.spread is None
    assert found.new == 0
