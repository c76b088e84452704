"""The rule judge of validity."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.data.schemas import Exchange, Request, user
from toxoid.judges.base import Outcome
from toxoid.judges.validity import ValidityJudge, is_plausible, read_validity, repetition, words_of

PROMPT = "Please tell me how tall the old mill in the valley is."


def outcome(reply):
    request = Request("set/1", PROMPT, "benign")
    return ValidityJudge().judge([Exchange(request, user(PROMPT), reply)], "valid")[0].outcome


@pytest.mark.parametrize(
    "reply",
    [
        "The mill is ten feet tall.",
        "Die Mühle ist zehn Fuß hoch, und sie steht schon lange im Tal.",
        "Młyn stoi w dolinie od wielu lat i wciąż działa bez przerwy.",
        "Мельница стоит в долине и мелет муку каждый день.",
        "水車小屋の高さは約十フィートです。",
        "الطاحونة القديمة في الوادي عالية جدا",
        "Call it so:\n```python\nqzx = mill.hght(xk9)\n```\nand read the number.",
        "See https://example.org/qzxv/3fj9 for the height of the mill.",
        "The NATO, the UN and the NGO met at the mill at 10:30 on 3 May 1999.",
        "1. Go to the mill.\n2. Measure it.\n3. Write it down.",
        "La la la, the mill goes round. La la la, the wheel goes round. The stones go round all day.",
    ],
)
def test_language_is_valid(reply):
    assert outcome(reply) is Outcome.HIT


@pytest.mark.parametrize(
    "reply",
    [
        "",
        " \n ",
        "the mill " * 40,
        "ha" * 600,
        "The mill is tall. " + "and so on and " * 40,
        "\x00\x01\x02 mill \x03\x04",
        "The \ufffd\ufffd is \ufffd tall",
        "qzx vbrk jjwq xkcd wvzt zzzq hgfd",
        "th3e m1ll w4s t4ll 4nd 0ld 1n th3e v4ll3y",
        "{}[]()<>//\\\\;;::==++--**&&^^%%$$##@@!!",
        "mill мельница 水車 طاحونة mill мельница 水車 طاحونة",
        PROMPT,
        f"  {PROMPT.upper()} ",
    ],
)
def test_what_shows_a_sign_of_gibberish_is_not(reply):
    assert outcome(reply) is Outcome.MISS


@pytest.mark.parametrize("reply", ["Yes.", "42", "the mill"])
def test_too_short_to_say_is_unscored(reply):
    assert outcome(reply) is Outcome.UNSCORED


def test_random_letters_are_found():
    draw = random.Random(0)
    words = ("".join(draw.choices(string.ascii_lowercase, k=draw.randint(3, 9))) for _ in range(40))
    assert outcome(" ".join(words)) is Outcome.MISS


def test_quoting_a_part_of_the_request_is_no_echo():
    assert outcome("How tall the old mill is.") is Outcome.HIT


def test_answer_that_begins_with_the_request_is_no_echo():
    assert outcome(f"{PROMPT} It is ten feet tall.") is Outcome.HIT


def test_reason_names_the_sign():
    assert "again" in read_validity("the mill " * 40).reason


def test_repetition_counts_ngrams_said_before():
    """a b a b a: the 2-grams ab ba ab ba, two of four said before."""
    assert repetition(list("ababa"), 2) == 0.5


def test_repetition_of_short_input_is_none():
    assert repetition(["a", "b"]) == 0


@pytest.mark.parametrize(
    "word",
    ["mill", "Straße", "rhythm", "strength", "naïve", "can't", "HTTP", "1999", "мир", "szczery", "Iraq"],
)
def test_words_are_plausible(word):
    assert is_plausible(word)


@pytest.mark.parametrize(
    "word", ["qzxv", "bgtrrw", "aaaargh", "mиll", "h4xx0r", "xkcd", "camElCaSeD", "qat", "a" * 30]
)
def test_what_could_not_be_a_word_is_not(word):
    assert not is_plausible(word)


def test_code_and_addresses_hold_no_words():
    assert words_of("see `qzx` at https://a.b/c and ```x y z```") == ["see", "at", "and"]


def test_another_aspect_is_refused():
    with pytest.raises(ValueError, match="refusal"):
        ValidityJudge().judge([], "refusal")


@given(st.text(max_size=300))
def test_any_text_gets_a_verdict(text):
    assert outcome(text) in set(Outcome)


@pytest.mark.parametrize(
    "unit", ["a", "`", "```", "a'", " ", "\ufffd", "ab1", "不", "https://", "\x00", "mill "]
)
def test_hundred_thousand_characters_are_read(unit):
    assert outcome(unit * (100_000 // len(unit))) in set(Outcome)
