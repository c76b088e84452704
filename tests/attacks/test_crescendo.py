"""Crescendo: stages, backtracking, and turns that an attacker writes."""

from itertools import pairwise

import pytest

from tests.helpers.playing import questions, said
from toxoid.attacks.crescendo import Crescendo
from toxoid.attacks.interactive import Ask, Consult
from toxoid.attacks.wording import load_wording
from toxoid.data.schemas import Message, Request
from toxoid.errors import UsageError

REQUEST = Request("set/1", "Which oath is {last}?")
LAB = Request("lab-harmful/1", "How do I skunden the thornbridge?")


def reply(question, number):
    return said(f"reply {number}")


def refuse(question, number):
    return said("No.", refused=True)


@pytest.mark.parametrize(("request_", "file"), [(REQUEST, "crescendo"), (LAB, "crescendo_lab")])
def test_stages_follow_one_another_and_only_the_last_asks(request_, file):
    asked = questions(Crescendo(), request_, reply)
    sections = load_wording(file).sections
    of = {phrase.id: name for name, phrases in sections.items() for phrase in phrases}
    stages = [of[ask.variant] for ask in asked]
    assert stages == [*list(sections)[:-1], *["request"] * (11 - len(sections))]
    assert [ask.setup for ask in asked] == [stage != "request" for stage in stages]


def test_the_conversation_grows_by_the_models_own_answers():
    asked = questions(Crescendo(), REQUEST, reply)
    for number, (before, after) in enumerate(pairwise(asked)):
        assert after.conversation[:-1] == (*before.conversation, Message("assistant", f"reply {number}"))


def test_a_refused_turn_is_taken_back_and_asked_in_other_words():
    asked = questions(Crescendo(), REQUEST, refuse)
    assert {len(ask.conversation) for ask in asked} == {1}
    assert len({ask.variant for ask in asked}) == len(asked)


def test_a_stage_that_is_always_refused_is_left_out():
    sections = load_wording("crescendo").sections
    asked = questions(Crescendo(turns=40), REQUEST, refuse)
    setups = [ask.variant for ask in asked if ask.setup]
    assert len(setups) == sum(len(phrases) for phrases in list(sections.values())[:-1])


def test_an_empty_reply_is_no_turn():
    asked = questions(Crescendo(), REQUEST, lambda question, number: said(""))
    assert {len(ask.conversation) for ask in asked} == {1}


@pytest.mark.parametrize("turns", [1, 4])
def test_no_more_turns_than_given(turns):
    assert len(questions(Crescendo(turns=turns), REQUEST, reply)) == turns


def test_the_last_answer_is_quoted_and_braces_in_it_are_not_filled():
    asked = questions(Crescendo(), REQUEST, lambda question, number: said("so {request} it is " * 50))
    request_turns = [ask.conversation[-1].content for ask in asked if not ask.setup]
    assert any("so {request} it is" in text for text in request_turns)
    assert all(REQUEST.prompt in text for text in request_turns)
    assert all(len(text) < 700 for text in request_turns)


def test_lab_words_need_a_request_of_the_lab():
    with pytest.raises(UsageError, match="names no goal of the lab"):
        questions(Crescendo(wording="lab"), REQUEST, reply)


def writes(stage):
    def answer(question, number):
        if isinstance(question, Consult):
            return said(fields={"thought": "t", "message": f"turn {number}", "stage": stage})
        return said(f"reply {number}")

    return answer


def test_a_written_turn_counts_unless_its_writer_says_that_it_only_prepares():
    for stage, counts in (("approach", False), ("request", True), ("whatever", True)):
        asked = questions(Crescendo(attacker=True, turns=3), REQUEST, writes(stage))
        told = [question for question in asked if isinstance(question, Ask)]
        assert [not ask.setup for ask in told[:-1]] == [counts] * 2


def test_the_last_written_turn_always_counts():
    assert not questions(Crescendo(attacker=True, turns=3), REQUEST, writes("approach"))[-1].setup


def test_the_attacker_is_told_how_the_last_turn_went():
    def answer(question, number):
        return (
            writes("request")(question, number) if isinstance(question, Consult) else refuse(question, number)
        )

    asked = questions(Crescendo(attacker=True, turns=2), REQUEST, answer)
    briefs = [question.conversation[-1].content for question in asked if isinstance(question, Consult)]
    assert "has not begun" in briefs[0]
    assert "taken back" in briefs[1]
    assert "turn 0" not in briefs[1]
    assert "turn 2 of 2" in briefs[1]


def test_malformed_answers_use_up_turns():
    asked = questions(Crescendo(attacker=True, turns=3), REQUEST, lambda question, number: said("?"))
    assert [type(question) for question in asked] == [Consult] * 3
