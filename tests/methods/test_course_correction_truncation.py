"""Truncations: clause-aligned, nested, equidistant, and never degenerate."""

import re
from random import Random

import pytest

from toxoid.methods.course_correction.truncation import DELIMITERS, truncate


def texts():
    """Replies of random words and delimiters."""
    rng = Random(7)
    for _ in range(200):
        parts = (
            rng.choice(["word", "well", " ", " ", *sorted(DELIMITERS)]) for _ in range(rng.randrange(60))
        )
        yield "".join(parts), rng.randrange(1, 6), rng.random() < 0.5


def test_every_truncation_is_a_beginning_that_ends_with_a_delimiter():
    for text, count, longer in texts():
        for part in truncate(text, count, longer=longer).kept.values():
            assert text.startswith(part)
            assert part[-1] in DELIMITERS


def test_truncations_grow_by_words_and_end_before_the_reply_does():
    for text, count, longer in texts():
        kept = truncate(text, count, longer=longer).kept.values()
        words = [0, *(len(re.findall(r"\w+", part)) for part in kept), len(re.findall(r"\w+", text))]
        assert words[:-1] == sorted(set(words[:-1]))
        assert not kept or words[-2] < words[-1]


def test_what_is_not_kept_is_counted():
    for text, count, longer in texts():
        found = truncate(text, count, longer=longer)
        assert len(found.kept) + found.dropped.total() == count


def test_the_stride_is_a_quarter_of_the_delimiters_or_one_less():
    text = "a, b, c, d, e, f, g, h, i, j"
    assert list(truncate(text, 4, longer=True).kept.values()) == [
        "a, b,",
        "a, b, c, d,",
        text[:17],
        text[:23],
    ]
    assert list(truncate(text, 4, longer=False).kept.values()) == ["a,", "a, b,", "a, b, c,", "a, b, c, d,"]


@pytest.mark.parametrize("longer", [True, False])
def test_a_stride_of_nothing_becomes_one(longer):
    assert truncate("a, b, c, d, e, f", 4, longer=longer).kept == {
        1: "a,",
        2: "a, b,",
        3: "a, b, c,",
        4: "a, b, c, d,",
    }


def test_a_reply_of_few_clauses_has_fewer_truncations():
    found = truncate("Take it. Turn it. Done", 4, longer=True)
    assert found.kept == {1: "Take it.", 2: "Take it. Turn it."}
    assert found.dropped == {"missing": 2}


def test_the_whole_reply_is_no_truncation():
    found = truncate("Take it. Turn it. Leave it. Done.  ", 4, longer=True)
    assert list(found.kept) == [1, 2, 3]
    assert found.dropped == {"whole": 1}


def test_truncations_without_a_word_are_dropped():
    found = truncate("(-) One, two, three, four", 4, longer=False)
    assert found.kept == {4: "(-) One,"}
    assert found.dropped == {"wordless": 3}


def test_equal_truncations_are_dropped():
    found = truncate("One ... two. Three", 4, longer=False)
    assert found.kept == {1: "One .", 4: "One ... two."}
    assert found.dropped == {"equal": 2}


def test_a_reply_without_delimiters_has_no_truncation():
    assert truncate("just words", 4, longer=True).dropped == {"missing": 4}
