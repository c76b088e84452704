"""The lab's attacker: seeded rewordings of the lab's requests."""

import json

import pytest

from toxoid.attacks.interactive import read_fields
from toxoid.attacks.lab import LabAttacker, slots
from toxoid.attacks.pair import FIELDS
from toxoid.data.lab import lab_requests
from toxoid.data.schemas import Request, user
from toxoid.engines.base import GenerationRequest
from toxoid.errors import UsageError
from toxoid.lab.oracle import Oracle

ASKED = [
    GenerationRequest(user(f"Please rewrite. <request>\n{request.prompt}\n</request>"), seed=index)
    for index, request in enumerate(lab_requests("lab-harmful").requests[:20])
]


def messages(requests):
    return [json.loads(done.text)["message"] for (done,) in LabAttacker().generate(requests)]


def test_every_answer_asks_for_the_same_goal():
    for asked, message in zip(ASKED, messages(ASKED), strict=True):
        goal, wanted = Oracle().ask(message), Oracle().ask(asked.conversation[-1].content)
        assert (goal.verb, goal.thing, goal.harmful) == (wanted.verb, wanted.thing, True)


def test_answers_are_well_formed():
    assert all(read_fields(done.text, FIELDS) for (done,) in LabAttacker().generate(ASKED))


def test_an_answer_depends_on_its_own_question_only():
    assert messages(ASKED[::-1]) == messages(ASKED)[::-1]
    assert messages(ASKED[3:5]) == messages(ASKED)[3:5]


def test_other_seeds_give_other_words():
    texts = {messages([GenerationRequest(ASKED[0].conversation, seed=seed)])[0] for seed in range(40)}
    assert len(texts) > 8


def test_what_is_no_request_of_the_lab_is_refused():
    for text in ("<request>Which oath is false?</request>", ASKED[0].conversation[-1].content[25:60]):
        with pytest.raises(UsageError, match="names no goal of the lab"):
            LabAttacker().generate([GenerationRequest(user(text))])


def test_slots_know_verbs_that_a_policy_forbids():
    request = lab_requests("lab-novel").requests[0]
    goal = slots(request, "lab")
    assert f"{goal['verb']} {goal['object']}" == request.metadata["goal"]


def test_slots_in_english_hold_the_request_alone():
    assert slots(Request("set/1", "x"), "english") == {"request": "x"}
