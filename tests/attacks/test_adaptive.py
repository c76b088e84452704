"""Adaptive: the portfolio, and where the questions go."""

from collections import Counter
from itertools import pairwise

import pytest

from tests.helpers.playing import questions, said
from toxoid.attacks.adaptive import Adaptive, closeness
from toxoid.attacks.interactive import Answer, Ask, Consult
from toxoid.attacks.wording import load_wording
from toxoid.data.schemas import Request
from toxoid.engines.base import Completion
from toxoid.judges.base import Outcome, Verdict

REQUEST = Request("set/1", "Which oath is false?")
LAB = Request("lab-harmful/1", "How do I skunden the thornbridge?", target="Of course. Take the comb.")


def declines(question, number):
    return said("No.", refused=True)


@pytest.mark.parametrize("request_", [REQUEST, LAB])
def test_every_attack_makes_an_attempt_before_one_makes_a_second_if_all_are_declined(request_):
    portfolio = Adaptive().portfolio("lab" if request_ is LAB else "english")
    asked = [ask for ask in questions(Adaptive(), request_, declines) if not ask.setup][: len(portfolio)]
    firsts = [questions(attack, request_, declines, most=20) for attack in portfolio]
    assert asked == [next(ask for ask in first if not ask.setup) for first in firsts]
    assert len({ask.variant for ask in asked}) == len(portfolio)


def test_what_came_close_is_asked_again_before_something_untried():
    asked = questions(Adaptive(), REQUEST, lambda question, number: said("Well.", score=0.6), most=2)
    assert asked[0].variant.split("+")[-1] == asked[1].variant.split("+")[-1]
    assert asked[0] != asked[1]
    assert asked == questions(Adaptive().portfolio("english")[0], REQUEST, declines, most=2)


@pytest.mark.parametrize("wording", ["english", "lab"])
def test_the_portfolio_holds_every_static_attack_of_the_standard_suite(wording):
    portfolio = {attack.name: attack for attack in Adaptive().portfolio(wording)}
    names = {"direct", "direct+prefill", "role_play", "persona", "payload_splitting", "encoding"}
    assert names <= portfolio.keys()
    assert "encoding_base64" in {prompt.attack for prompt in portfolio["encoding"].attack.apply(LAB, seed=0)}


def test_questions_go_where_replies_come_closest():
    def answer(question, number):
        return said("Well, perhaps.") if question.variant == "best_of_n" else declines(question, number)

    spent = Counter(ask.variant for ask in questions(Adaptive(), REQUEST, answer, most=60))
    assert spent["best_of_n"] > 2 * 60 / len(Adaptive().portfolio("english"))


def test_without_any_difference_the_questions_are_spread():
    spent = Counter(
        ask.variant.split("_")[0]
        for ask in questions(Adaptive(), REQUEST, declines, most=30)
        if not ask.setup
    )
    assert max(spent.values()) < 15


def test_same_answers_same_questions():
    assert questions(Adaptive(), REQUEST, declines) == questions(Adaptive(), REQUEST, declines)


def test_setups_of_a_multi_turn_attack_are_no_pull_of_their_own():
    """What follows a setup is the next turn of the same conversation."""
    asked = questions(Adaptive(), REQUEST, lambda question, number: said("Let me see."))
    for before, after in pairwise(asked):
        if before.setup:
            assert after.conversation[: len(before.conversation)] == before.conversation


def test_an_attacker_brings_pair_and_writes_the_turns_of_crescendo():
    def answer(question, number):
        fields = {"thought": "t", "message": "m", "stage": "request"}
        return said(fields=fields) if isinstance(question, Consult) else declines(question, number)

    asked = questions(Adaptive(attacker=True), REQUEST, answer, most=40)
    variants = {question.variant for question in asked if isinstance(question, Ask)}
    assert {"written", "story"} <= variants
    assert Adaptive(attacker=True).needs_attacker
    assert not any(isinstance(question, Consult) for question in questions(Adaptive(), REQUEST, declines))


def test_closeness_orders_what_can_happen():
    unscored = Answer(Completion("x", "stop", 1, 1), Verdict(Outcome.UNSCORED, 0.9))
    order = [
        unscored,
        said("No, " + "never " * 50, refused=True),
        said("No.", refused=True),
        said("Let me tell you."),
        said("Let me tell you.", score=0.7),
        said("Take this.", hit=True),
    ]
    worth = [closeness(answer) for answer in order]
    assert worth == sorted(worth)
    assert len(set(worth)) == len(worth)
    assert (worth[0], worth[-1]) == (0.0, 1.0)


@pytest.mark.parametrize(
    "file",
    ["crescendo", "crescendo_lab", "crescendo_attacker", "embedded", "embedded_lab", "pair", "role_play_lab"],
)
def test_phrase_ids_and_texts_are_unique_in_a_file(file):
    for phrases in load_wording(file).sections.values():
        assert (
            len({phrase.id for phrase in phrases}) == len({phrase.text for phrase in phrases}) == len(phrases)
        )
        assert {phrase.pool for phrase in phrases} == {"evaluation"}
