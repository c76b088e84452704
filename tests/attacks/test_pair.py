"""PAIR: streams, depth, feedback, and what a malformed answer costs."""

import pytest

from tests.helpers.playing import questions, said
from toxoid.attacks.interactive import Ask, Consult
from toxoid.attacks.pair import SHOWN, Pair, rating
from toxoid.attacks.wording import load_wording
from toxoid.data.schemas import Message, Request
from toxoid.judges.base import Outcome, Verdict

REQUEST = Request("set/1", "Which oath is {false}?")


def answers(question, number):
    if isinstance(question, Consult):
        fields = {"thought": "t", "message": f"idea {number}"}
        return said(f"raw {number}", fields=fields)
    return said(f"reply {number}", score=0.5)


def test_attacker_and_target_are_asked_by_turns():
    asked = questions(Pair(streams=2, depth=3), REQUEST, answers)
    assert [type(question) for question in asked] == [Consult, Ask] * 6
    assert [q.conversation[-1].content for q in asked[1::2]] == [f"idea {n}" for n in range(0, 12, 2)]


def test_attacker_sees_request_reply_and_rating():
    consulted = [q for q in questions(Pair(streams=1, depth=2), REQUEST, answers) if isinstance(q, Consult)]
    first, second = (q.conversation for q in consulted)
    assert f"<request>\n{REQUEST.prompt}\n</request>" in first[-1].content
    assert second[: len(first)] == first
    assert second[len(first)] == Message("assistant", "raw 0")
    assert "reply 1" in second[-1].content
    assert "5 of 10" in second[-1].content or "6 of 10" in second[-1].content


def test_a_stream_begins_from_scratch_under_the_next_system():
    asked = questions(Pair(streams=4, depth=1), REQUEST, answers)
    systems = [question.conversation[0].content for question in asked[::2]]
    assert systems[:3] == [phrase.text for phrase in load_wording("pair").sections["systems"]]
    assert systems[3] == systems[0]
    assert {len(question.conversation) for question in asked[::2]} == {2}


def test_a_malformed_answer_uses_up_a_step_and_is_not_shown_to_anybody():
    asked = questions(Pair(streams=1, depth=3), REQUEST, lambda question, number: said("???"))
    assert [type(question) for question in asked] == [Consult] * 3
    assert len({question.conversation for question in asked}) == 1


def test_long_replies_are_cut_for_the_attacker():
    def long(question, number):
        return answers(question, number) if isinstance(question, Consult) else said("x" * 10 * SHOWN)

    asked = questions(Pair(streams=1, depth=2), REQUEST, long)
    assert asked[2].conversation[-1].content.count("x") < SHOWN + 100


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        (Verdict(Outcome.HIT), "10 of 10"),
        (Verdict(Outcome.MISS), "1 of 10"),
        (Verdict(Outcome.MISS, 0.0), "1 of 10"),
        (Verdict(Outcome.HIT, 1.0), "10 of 10"),
        (Verdict(Outcome.UNSCORED, 0.9), "none"),
        (None, "none"),
    ],
)
def test_rating_is_the_score_from_one_to_ten_and_never_guessed(verdict, told):
    assert rating(verdict).startswith(told)


@pytest.mark.parametrize("file", ["pair", "crescendo_attacker"])
def test_attackers_are_told_to_write_no_details_themselves(file):
    systems = load_wording(file).sections.get("systems") or load_wording(file).sections["parts"][:1]
    assert all("no instructions, methods or details" in " ".join(phrase.text.split()) for phrase in systems)
