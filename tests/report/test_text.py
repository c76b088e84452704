"""Hostile text becomes visible text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.report.text import one_line, pieces, visible

anything = st.text(st.characters(exclude_categories=[]))


@pytest.mark.parametrize(
    ("character", "marker"),
    [
        ("\u202e", r"\u202e"), ("\u2066", r"\u2066"), ("\u200b", r"\u200b"), ("\u200d", r"\u200d"),
        ("\ufeff", r"\ufeff"), ("\xad", r"\xad"), ("\x1b", r"\x1b"), ("\x00", r"\x00"), ("\x7f", r"\x7f"),
        ("\x9b", r"\x9b"), ("\r", r"\x0d"), ("\u2028", r"\u2028"), ("\ud800", r"\ud800"), ("\ue000", r"\ue000"),
        ("\U000e0041", r"\U000e0041"), ("\U000e0101", r"\U000e0101"), ("\u3164", r"\u3164"), ("\u2800", r"\u2800"),
    ],
)  # fmt: skip
def test_a_hiding_character_is_written_as_a_marker(character, marker):
    assert visible(f"a{character}b") == f"a{marker}b"


@pytest.mark.parametrize("text", ["plain", "two\nlines\tand a tab", "Füße, naïve, 日本語, עברית", "☀️ 👍"])
def test_ordinary_text_stays_as_it_is(text):
    assert visible(text) == text


def test_line_ends_of_windows_are_line_ends():
    assert visible("a\r\nb") == "a\nb"


def test_an_ansi_escape_loses_its_power():
    assert visible("\x1b[2J\x1b]0;owned\x07") == r"\x1b[2J\x1b]0;owned\x07"


def test_combining_marks_may_sit_on_a_letter_but_not_pile_up():
    assert visible("e\u0301") == "e\u0301"
    assert visible("e" + "\u0301" * 9) == "e" + "\u0301" * 3 + r"\u0301" * 6


def test_a_long_text_is_cut_with_a_note():
    assert visible("x" * 1_000_000, limit=10) == "x" * 10 + " … [999,990 more characters not shown]"


def test_a_text_as_long_as_the_limit_is_not_cut():
    assert visible("x" * 10, limit=10) == "x" * 10


def test_a_real_marker_is_told_from_its_double():
    assert [(piece.text, piece.escaped) for piece in pieces("\\u202e\u202e")] == [
        (r"\u202e", False),
        (r"\u202e", True),
    ]


@given(anything)
def test_nothing_that_controls_or_hides_is_left(text):
    left = {unicodedata.category(character) for character in visible(text) if character not in "\n\t"}
    assert not left & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(anything)
def test_visible_text_can_be_encoded(text):
    visible(text).encode()


@given(anything)
def test_one_line_is_one_short_line(text):
    line = one_line(text, limit=20)
    assert "\n" not in line
    assert len(line) <= 22


def test_one_line_of_a_short_text_is_whole():
    assert one_line("a\n b\t c") == "a b c"
