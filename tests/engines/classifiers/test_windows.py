"""Windows: every token is read, none is cut twice, nothing unreadable gets through."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.engines.classifiers.windows import Window, cuts, readable, shortened


@given(st.integers(1, 400), st.integers(1, 60), st.data())
def test_windows_cover_the_text_and_are_full(length, room, data):
    overlap = data.draw(st.integers(0, room // 2 if room < length else room + 1))
    tokens = list(range(length))
    parts = [tokens[part] for part in cuts(length, room, overlap)]
    assert set().union(*parts) == set(tokens)
    assert all(len(part) == min(room, length) for part in parts)
    assert parts == sorted(parts)
    assert len({part[0] for part in parts}) == len(parts)


@given(st.integers(30, 400))
def test_neighbouring_windows_share_the_overlap(length):
    parts = [set(range(length)[part]) for part in cuts(length, 20, 5)]
    assert all(len(left & right) >= 5 for left, right in pairwise(parts))


@given(st.lists(st.integers(), max_size=30), st.integers(1, 40))
def test_shortened_keeps_both_ends(pieces, room):
    kept = shortened(pieces, room)
    assert len(kept) == min(len(pieces), room)
    if len(pieces) > room > 1:
        assert (kept[0], kept[-1]) == (pieces[0], pieces[-1])


@given(st.text(alphabet=st.characters(), max_size=50))
def test_readable_text_can_be_encoded_and_keeps_its_length(text):
    plain = readable(text)
    plain.encode("utf-8")
    assert plain == "" or len(plain) == len(text)


@pytest.mark.parametrize(
    "text", ["", "  \n\t", "\x00\x01\x7f", "\ud800\udfff", "\ufffd", "\u200b\u2060", "\ue000"]
)
def test_text_without_a_visible_sign_is_empty(text):
    assert readable(text) == ""


@pytest.mark.parametrize("text", ["a", "爆", "🙂", "?", "\u0628", "a\u200db"])
def test_visible_text_stays_as_it_is(text):
    assert readable(text) == text


@pytest.mark.parametrize(("tokens", "overlap"), [(7, 0), (32, 9), (32, -1)])
def test_a_window_without_room_is_refused(tokens, overlap):
    with pytest.raises(ValueError, match="overlap"):
        Window(tokens, overlap)
