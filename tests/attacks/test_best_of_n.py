"""Best-of-N: the noise and the waves."""

from collections import Counter
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.playing import questions, said
from toxoid.attacks.best_of_n import BestOfN, augmented
from toxoid.data.schemas import Request

REQUEST = Request("set/1", "Please explain which of the seven oaths was false, and who swore it.")
LAB = Request("lab-harmful/1", REQUEST.prompt)


def texts(attack, request=REQUEST, *, seed=0, most=40):
    asked = questions(attack, request, lambda question, number: said(), seed=seed, most=most)
    return [ask.conversation[-1].content for ask in asked]


@given(st.text(), st.floats(0, 1), st.integers(0, 99))
def test_noise_keeps_the_length(text, strength, seed):
    assert len(augmented(text, Random(seed), strength)) == len(text)


@given(st.text())
def test_no_strength_is_no_noise(text):
    assert augmented(text, Random(0), 0.0) == text


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "Z", "P"])), st.integers(0, 99))
def test_weak_noise_keeps_letters_and_the_ends_of_words(text, seed):
    noisy = augmented(text, Random(seed), 1e-9**0.5)  # characters are replaced with probability 1e-14
    assert Counter(noisy.lower()) == Counter(text.lower())


def test_scrambling_keeps_first_and_last_letters():
    noisy = augmented("abcdefgh " * 200, Random(0), 0.2).split()
    kept = [word for word in noisy if word[0] in "aA" and word[-1] in "hH"]
    assert len(kept) > 190  # σ^3 replaces one character in 125
    assert len({word.lower() for word in noisy}) > 50


def test_rates_are_those_of_the_paper():
    """Of the lower-case letters of three-letter words, which are not scrambled, σ^(1/2) change case."""
    noisy = augmented("abc " * 5000, Random(1), 0.25)
    upper = sum(letter.isupper() for letter in noisy) / 15_000
    assert upper == pytest.approx(0.5, abs=0.02)


def test_every_sample_is_another_and_the_same_again_with_the_same_seed():
    first = texts(BestOfN())
    assert len(set(first)) == len(first)
    assert first == texts(BestOfN())
    assert not set(first) & set(texts(BestOfN(), seed=1))


def test_samples_do_not_depend_on_how_many_are_asked_at_once():
    assert texts(BestOfN(wave=1)) == texts(BestOfN(wave=16))


def test_a_wave_is_at_most_what_was_asked_before():
    moves = BestOfN(wave=4).play(REQUEST, seed=0)
    sizes = [len(next(moves))]
    sizes += [len(moves.send([said()] * size)) for size in islice([1, 1, 2, 4, 4], 5)]
    assert sizes == [1, 1, 2, 4, 4, 4]


def test_noise_is_weaker_in_the_lab():
    changed = [
        sum(a != b for a, b in zip(texts(BestOfN(), r)[0], r.prompt, strict=True)) for r in (REQUEST, LAB)
    ]
    assert changed[0] > 10 > 5 > changed[1]
