"""A server knows its own words, and only those."""

from __future__ import annotations

from toxoid.serve.spoken import Spoken


def test_only_what_was_said_is_known_whatever_blanks_stand_around_it():
    spoken = Spoken()
    spoken.add(" One.\n")
    assert "One." in spoken
    assert "One" not in spoken
    assert "One." not in Spoken()


def test_half_of_a_surrogate_pair_is_text_like_any_other():
    spoken = Spoken()
    spoken.add("\ud800")
    assert "\ud800" in spoken


def test_what_came_up_least_recently_is_forgotten_first():
    spoken = Spoken(most=2)
    for reply in ("one", "two"):
        spoken.add(reply)
    assert "one" in spoken
    spoken.add("three")
    assert [reply in spoken for reply in ("one", "two", "three")] == [True, False, True]


def test_what_is_said_again_is_as_new():
    spoken = Spoken(most=2)
    for reply in ("one", "two", "one", "three"):
        spoken.add(reply)
    assert [reply in spoken for reply in ("one", "two", "three")] == [True, False, True]
