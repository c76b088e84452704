"""The contrast set: whole pairs, both sides alike, nothing of the tests' data in it."""

from __future__ import annotations

from collections import Counter

import pytest

from toxoid.data.contrast import contrast_requests
from toxoid.data.loading import load_requests
from toxoid.data.request_set import prompt_key
from toxoid.errors import UsageError


def test_there_are_at_least_six_hundred_pairs_over_all_categories():
    rows = load_requests("contrast")
    pairs = Counter(request.metadata["pair"] for request in rows)
    assert len(pairs) >= 600
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


def test_ordinary_requests_are_benign():
    rows = load_requests("contrast-ordinary")
    assert len(rows) >= 300
    assert {request.kind for request in rows} == {"benign"}


def test_an_unknown_split_is_refused():
    with pytest.raises(UsageError, match="train"):
        load_requests("contrast", split="dev")


@pytest.mark.data
def test_nothing_in_it_stands_in_xstest():
    try:
        theirs = {prompt_key(request) for request in load_requests("xstest")}
    except UsageError as missing:
        pytest.skip(str(missing))
    assert not theirs & {prompt_key(request) for request in load_requests("contrast")}
