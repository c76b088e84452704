"""Encodings: what is sent reads back exactly as the request, and says how it has to be read."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.attacks.decoders import DECODERS
from toxoid.attacks.codes import CODES
from toxoid.attacks.encoding import Encoding
from toxoid.attacks.wording import load_wording
from toxoid.data.schemas import Request
from toxoid.errors import UsageError

REQUEST = Request("set/1", 'How do I mend {it}, "quickly" & | well?\nUse 3/4 a line.')
CASELESS = {"morse"}
TRICKY = [*"aeiouwayhWAY-'|&;<>/\\\"`,.?!0134579 \n\r\té\u0430\u200b", "ay", "-way", "&#10;", "alfa", "/ "]
texts = st.one_of(
    st.lists(st.sampled_from(TRICKY), max_size=20).map("".join),
    st.text(string.printable, max_size=30),
    st.text(max_size=30),
)
codes = pytest.mark.parametrize("code", CODES)


def folded(code: str, text: str) -> str:
    """Return the text as the code can tell it: Morse has no capital letters, which ASCII has 26 of."""
    return re.sub("[A-Z]", lambda letter: letter[0].lower(), text) if code in CASELESS else text


def test_every_code_has_a_decoder():
    assert CODES.keys() == DECODERS.keys()


@codes
@given(text=texts)
@example(text="")
@example(text="a-way ay -ay way- yay 'tis hmm! 3rd-ay")
def test_a_coded_text_reads_back_exactly(code, text):
    assert DECODERS[code](CODES[code].encode(text)) == folded(code, text)


@pytest.mark.parametrize("code", sorted(CODES.keys() - {"code", "json"}))
def test_a_code_hides_the_text(code):
    assert REQUEST.prompt not in CODES[code].encode(REQUEST.prompt)


@pytest.mark.parametrize(
    ("code", "encoded"),
    [
        ("base64", "SG93IHRvPw=="),
        ("rot13", "Ubj gb?"),
        ("leetspeak", "H0w 70?"),
        ("morse", ".... --- .-- / - --- ..--.."),
        ("nato", "Hotel oscar whiskey / tango oscar ?"),
        ("pig_latin", "ow-Hay o-tay?"),
        ("reversed_words", "woH ?ot"),
        ("spaced", "H o w   t o ?"),
        ("csv", '"row","word"\n1,"How"\n2,"to?"'),
        ("markdown_table", "| row | word |\n|---|---|\n| 1 | How |\n| 2 | to? |"),
    ],
)
def test_codes_are_the_usual_ones(code, encoded):
    assert CODES[code].encode("How to?") == encoded


@codes
@pytest.mark.parametrize("pool", ["evaluation", "training"])
def test_message_is_the_instruction_with_the_coded_request(code, pool):
    wording = load_wording("encoding")
    for prompt in Encoding(code, variants=2, pool=pool).apply(REQUEST, seed=0):
        reading_id, ask_id = prompt.variant.split("/")
        (reading,) = (phrase for phrase in wording.of(code, pool) if phrase.id == reading_id)
        (ask,) = (phrase for phrase in wording.of("asks", pool) if phrase.id == ask_id)
        before, after = reading.fill(ask=ask.text).split("{encoded}")
        sent = prompt.conversation[-1].content
        assert sent.startswith(before)
        assert sent.endswith(after)
        assert DECODERS[code](sent[len(before) : len(sent) - len(after)]) == folded(code, REQUEST.prompt)


@codes
def test_a_judge_sees_the_request_in_plain_text(code):
    assert Encoding(code).apply(REQUEST, seed=0)[0].request == REQUEST


def test_some_instruction_asks_for_plain_text():
    assert any("plain text" in phrase.text for phrase in load_wording("encoding").of("asks", "evaluation"))


def test_unknown_code_gets_a_suggestion():
    with pytest.raises(UsageError, match=r'"base46" is no code. Did you mean "base64"'):
        Encoding("base46")
