"""Payload splitting: pieces that join to the request, in one message or over turns."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toxoid.attacks.splitting import PIECES, Splitting, pieces_of
from toxoid.data.schemas import Request

REQUEST = Request("set/1", 'How do I mend a "broken" {piece} of a clock\nwithout a key?')
SHORT = Request("set/2", "Why?")
NAMES = ["payload_splitting", "payload_splitting_turns"]
texts = st.text(st.sampled_from('ab \n\té"{}'), max_size=60)


def told(prompt):
    """Return the pieces in the order in which the user tells them."""
    text = "\n".join(turn.content for turn in prompt.conversation if turn.role == "user")
    return [json.loads(literal) for literal in re.findall(r'"(?:[^"\\]|\\.)*"', text)]


@given(texts, st.sampled_from(PIECES))
@example("", 4)
@example("x", 3)
def test_pieces_join_to_the_text(text, count):
    pieces = pieces_of(text, count)
    assert "".join(pieces) == text
    assert len(pieces) == count


@given(texts, st.sampled_from(PIECES))
def test_pieces_begin_where_words_begin_if_there_are_enough(text, count):
    if len(text.split()) >= count and not text[0].isspace():
        pieces = pieces_of(text, count)
        assert [word for piece in pieces for word in piece.split()] == text.split()
        assert all(piece.strip() for piece in pieces)


@pytest.mark.parametrize("count", PIECES)
def test_a_short_text_is_cut_inside_its_words(count):
    assert all(pieces_of("Why?", count))


def test_pieces_are_of_about_the_same_length():
    pieces = pieces_of("word " * 40, 4)
    assert {len(piece) for piece in pieces} == {50}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("request_", [REQUEST, SHORT])
def test_pieces_told_join_to_the_request(name, request_):
    prompts = Splitting(name, variants=12).apply(request_, seed=0)
    assert {"".join(told(prompt)) for prompt in prompts} == {request_.prompt}
    assert {len(told(prompt)) for prompt in prompts} == {*PIECES}


@pytest.mark.parametrize("name", NAMES)
def test_no_message_holds_the_request(name):
    for prompt in Splitting(name, variants=12).apply(REQUEST, seed=0):
        assert not any(REQUEST.prompt in turn.content for turn in prompt.conversation)


@pytest.mark.parametrize("name", NAMES)
def test_variant_names_the_number_of_pieces(name):
    for prompt in Splitting(name, variants=12).apply(REQUEST, seed=0):
        assert prompt.variant.endswith(f"/pieces={len(told(prompt))}")


def test_turns_alternate_and_end_with_the_user():
    for prompt in Splitting("payload_splitting_turns", variants=12).apply(REQUEST, seed=0):
        roles = [turn.role for turn in prompt.conversation]
        assert roles == ["user", "assistant"] * len(told(prompt)) + ["user"]


def test_one_message_stays_one_message():
    assert all(
        len(prompt.conversation) == 1 for prompt in Splitting("payload_splitting", 12).apply(REQUEST, seed=0)
    )
