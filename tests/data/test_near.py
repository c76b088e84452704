"""Nearly equal texts, beside the slow obvious way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.data.near import HALF, NearTexts, triples

TEXTS = st.lists(st.lists(st.sampled_from("abc"), max_size=8).map(" ".join), max_size=6)


def jaccard(one, other):
    return len(triples(one) & triples(other)) / len(triples(one) | triples(other))


@given(TEXTS, TEXTS, st.sampled_from([0.3, HALF, 0.8, 1.0]))
def test_it_is_near_where_one_of_them_shares_enough(texts, asked, share):
    near = NearTexts(texts, share=share)
    for text in asked:
        assert (text in near) == any(jaccard(text, known) >= share for known in texts)


@given(TEXTS)
def test_adding_is_beginning_with(texts):
    near = NearTexts()
    for text in texts:
        near.add(text)
    assert all((text in near) == (text in NearTexts(texts)) for text in ["a b c", "a", *texts])


def test_case_and_punctuation_do_not_count():
    assert "How, do I bake BREAD" in NearTexts(["how do I bake bread?"], share=1.0)


@pytest.mark.parametrize("text", ["entirely other words stand here", "how", ""])
def test_another_text_is_not_near(text):
    assert text not in NearTexts(["how do I bake bread?"])


def test_nothing_is_near_nothing():
    assert "a text" not in NearTexts()
