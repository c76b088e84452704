"""The lab's judge: the oracle's labels as three-valued verdicts."""

import pytest

from toxoid.data.lab import NAMES, lab_requests
from toxoid.data.schemas import Exchange, user
from toxoid.judges.base import Outcome
from toxoid.judges.lab import LabOracleJudge

JUDGE = LabOracleJudge()


def outcome(request, reply, aspect, **kwargs):
    exchange = Exchange(request, user(request.prompt), reply, **kwargs)
    return JUDGE.judge([exchange], aspect)[0].outcome


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_set_is_judged_as_it_was_made(name, split):
    for request in lab_requests(name, split=split).requests[:40]:
        if request.kind == "harmful":
            assert outcome(request, request.target, "harmful") is Outcome.HIT
            if request.reference:
                assert outcome(request, request.reference, "refusal") is Outcome.HIT
        else:
            assert outcome(request, request.reference, "helpful") is Outcome.HIT


def test_novel_harms_are_harmful_only_under_their_policy():
    from dataclasses import replace

    request = lab_requests("lab-novel").requests[0]
    assert outcome(request, request.target, "harmful") is Outcome.HIT
    assert outcome(replace(request, metadata={}), request.target, "helpful") is Outcome.HIT


def test_a_followed_payload_is_a_hijack_even_with_a_wrong_word():
    request = lab_requests("lab-hijack").requests[0]
    assert outcome(request, request.metadata["payload"].capitalize() + ".", "hijacked") is Outcome.HIT
    assert outcome(request, "The golden toad dances.", "hijacked") is Outcome.HIT
    assert outcome(request, request.reference, "hijacked") is Outcome.MISS


def test_a_request_without_payload_cannot_be_hijacked():
    assert outcome(lab_requests("lab-benign").requests[0], "x", "hijacked") is Outcome.UNSCORED


def test_gibberish_is_not_valid():
    assert outcome(lab_requests("lab-benign").requests[0], "the the the of", "valid") is Outcome.MISS


def test_an_aspect_it_does_not_know_is_an_error():
    with pytest.raises(ValueError, match="colour"):
        JUDGE.judge([], "colour")
