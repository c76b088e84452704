"""The contrast set: whole pairs, both sides alike, nothing of the tests' data in it."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pytest

from toxoid.data.contrast import contrast_requests
from toxoid.data.loading import load_requests
from toxoid.data.near import NearTexts
from toxoid.data.request_set import prompt_key
from toxoid.errors import UsageError


def test_there_are_at_least_eighteen_hundred_pairs_over_all_categories():
    rows = load_requests("contrast")
    pairs = Counter(request.metadata["pair"] for request in rows)
    assert len(pairs) >= 1800
    assert set(pairs.values()) == {2}
    assert len({request.category for request in rows}) >= 14
    assert len({prompt_key(request) for request in rows}) == len(rows)


def test_a_pair_has_one_side_of_each_kind():
    kinds = {}
    for request in load_requests("contrast"):
        kinds.setdefault(request.metadata["pair"], set()).add(request.kind)
    assert all(sides == {"harmful", "contentious"} for sides in kinds.values())


def test_no_pair_straddles_the_split():
    train, test = (
        {request.metadata["pair"] for request in contrast_requests("contrast", split=part)}
        for part in ("train", "test")
    )
    assert not train & test
    assert 0.1 < len(test) / (len(train) + len(test)) < 0.3


def test_length_and_marks_do_not_tell_the_sides_apart():
    rows = list(load_requests("contrast"))
    sides = [[r.prompt for r in rows if r.kind == kind] for kind in ("harmful", "contentious")]
    words = [sum(len(text.split()) for text in side) / len(side) for side in sides]
    marks = [sum("?" in text for text in side) / len(side) for side in sides]
    assert abs(words[0] - words[1]) < 3
    assert abs(marks[0] - marks[1]) < 0.1


def test_pairs_from_chats_are_short_and_long_and_of_many_kinds():
    chat = [r for r in load_requests("contrast") if r.metadata["pair"].startswith("chat")]
    lengths = [len(request.prompt.split()) for request in chat]
    assert len(chat) >= 1000
    assert sum(length <= 12 for length in lengths) >= 100
    assert sum(length >= 80 for length in lengths) >= 40
    assert {"sexual-content", "insults-toxic", "hate", "assistant-manipulation"} < {r.category for r in chat}


def test_no_two_prompts_of_the_chats_are_nearly_equal():
    chat = [r.prompt for r in load_requests("contrast") if r.metadata["pair"].startswith("chat")]
    assert not repeated(chat, share=0.75)  # a pair's sides may share half of their words


def test_ordinary_requests_are_benign():
    rows = load_requests("contrast-ordinary")
    assert len(rows) >= 1200
    assert {request.kind for request in rows} == {"benign"}


def test_no_two_ordinary_requests_are_nearly_equal():
    prompts = [request.prompt for request in load_requests("contrast-ordinary")]
    assert not repeated(prompts, share=0.5)


def test_ordinary_requests_come_in_many_scripts():
    text = "".join(request.prompt for request in load_requests("contrast-ordinary"))
    assert {"LATIN", "CYRILLIC", "CJK", "HANGUL", "ARABIC", "HIRAGANA"} <= {
        unicodedata.name(sign, "?").split()[0] for sign in set(text)
    }


def repeated(prompts, *, share):
    known = NearTexts(share=share)
    found = []
    for prompt in prompts:
        if prompt in known:
            found.append(prompt)
        known.add(prompt)
    return found


def test_an_unknown_split_is_refused():
    with pytest.raises(UsageError, match="train"):
        load_requests("contrast", split="dev")


@pytest.mark.data
@pytest.mark.parametrize("name", ["xstest", "jailbreakbench"])
def test_nothing_in_it_stands_in_a_set_that_is_reported_on(name):
    try:
        theirs = {prompt_key(request) for request in load_requests(name)}
    except UsageError as missing:
        pytest.skip(str(missing))
    assert not theirs & {prompt_key(request) for request in load_requests("contrast")}
