"""What a guard lets pass, and when."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serve.backends import FakeBackend, WordJudge, panel
from toxoid.data.schemas import Message, user
from toxoid.engines.base import GenerationRequest
from toxoid.serve.jobs import Failed, Finished, Job, Piece
from toxoid.serve.judging import JudgeFailed, JudgeThread, serving_panel
from toxoid.serve.metrics import Metrics
from toxoid.serve.protect import Guard, is_full, without_refused
from toxoid.serve.settings import HoldBackSection, ProtectionSection
from toxoid.serve.spoken import Spoken

ASKED = GenerationRequest(user("a question"))


def settings(**given):
    return ProtectionSection(refusal="No.", **given)


def released(texts, protection, judge, *, whole=False, cut=3, n=1, failure=None):
    """Return what a guard releases of replies ``texts``, with what the judge had seen before each event."""

    async def run():
        judges = JudgeThread(panel(judge))
        request = GenerationRequest(user("a question"), n=n)
        backend = FakeBackend(lambda request, i: texts[i], cut=cut, failure=failure)
        guard = Guard(request, protection, judges, Metrics(), Spoken(), whole=whole)
        found = []
        async for event in guard.released(backend.submit(Job(request))):
            found.append((event, list(judge.seen)))
        await asyncio.to_thread(judges.close)
        return found

    return asyncio.run(run())


def text_of(found, index=0):
    return "".join(event.text for event, _ in found if isinstance(event, Piece) and event.index == index)


def admits(request, protection=None, judge=None, said=()):
    async def run():
        judges = JudgeThread(panel(judge))
        spoken = Spoken()
        for reply in said:
            spoken.add(reply)
        guard = Guard(request, protection or settings(), judges, Metrics(), spoken, whole=True)
        try:
            return await guard.admits()
        finally:
            await asyncio.to_thread(judges.close)

    return asyncio.run(run())


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_released_before_a_text_that_holds_it_was_judged(seed):
    draw = random.Random(seed)
    text = "".join(draw.choice("ab .\n!") for _ in range(draw.randrange(1, 80)))
    window = HoldBackSection(
        size=draw.randrange(1, 20), unit=draw.choice(["characters", "sentences", "reply"])
    )
    found = released([text], settings(hold_back=window), WordJudge(), cut=draw.randrange(1, 9))
    sent = ""
    for event, seen in found:
        if isinstance(event, Piece):
            sent += event.text
            assert any(judged.startswith(sent) for judged in seen)
    assert sent == text
    assert isinstance(found[-1][0], Finished)


def test_a_hit_ends_the_reply_before_the_window_it_stands_in_is_sent():
    window = HoldBackSection(size=10)
    found = released(["fine words, then BAD ones and more"], settings(hold_back=window), WordJudge(), cut=1)
    sent, _, refusal = text_of(found).partition("\n\n")
    assert refusal == "No."
    assert "BAD" not in sent
    assert sent == "fine words"
    assert (found[-1][0].reason, found[-1][0].completion_tokens) == ("content_filter", 20)


def test_a_hit_across_windows_is_seen_because_the_text_so_far_is_judged():
    window = HoldBackSection(size=2)
    found = released(["xxBAD"], settings(hold_back=window), WordJudge(), cut=1)
    assert text_of(found) == "xxBA\n\nNo."


def test_a_whole_reply_is_judged_once_and_replaced():
    judge = WordJudge()
    found = released(
        ["fine words, then BAD ones"], settings(hold_back=HoldBackSection(size=1)), judge, whole=True
    )
    assert text_of(found) == "No."
    assert len(judge.seen) == 1
    assert (found[-1][0].prompt_tokens, found[-1][0].completion_tokens) == (5, 9)


def test_the_other_replies_go_on():
    texts = ["BAD", "good", "BAD"]
    found = released(texts, settings(hold_back=HoldBackSection(size=1)), WordJudge(), n=3)
    assert [text_of(found, index) for index in range(3)] == ["No.", "good", "No."]
    ends = [event.reason for event, _ in found if isinstance(event, Finished)]
    assert ends == ["content_filter", "stop", "content_filter"]


def test_what_is_held_when_a_job_fails_is_never_sent():
    found = released(["held"], settings(), WordJudge(), failure=Failed("gone"))
    assert [type(event) for event, _ in found] == [Failed]


def test_a_judge_that_fails_lets_nothing_pass():
    with pytest.raises(JudgeFailed, match="it cannot"):
        released(["BOOM"], settings(), WordJudge())


@pytest.mark.parametrize(("unscored", "expected"), [("answer", "DIM"), ("refuse", "No.")])
def test_the_operator_decides_what_becomes_of_a_reply_without_verdict(unscored, expected):
    assert text_of(released(["DIM"], settings(unscored=unscored), WordJudge())) == expected


@pytest.mark.parametrize(("threshold", "expected"), [(0.95, "BAD"), (0.05, "No."), (None, "No.")])
def test_a_threshold_goes_before_the_judges_own(threshold, expected):
    assert text_of(released(["BAD"], settings(output_threshold=threshold), WordJudge())) == expected


def turns(*texts):
    """Turns of user and assistant, the user first."""
    return tuple(Message(("user", "assistant")[at % 2], text) for at, text in enumerate(texts))


class LengthJudge(WordJudge):
    """Hits what holds BAD, or both A and B, and is misled by more than 40 characters."""

    def _verdict(self, text):
        split = "A" in text and "B" in text
        return super()._verdict("BAD" if ("BAD" in text or split) and len(text) <= 40 else "fine")


def test_a_harmless_beginning_cannot_dilute_the_last_turn():
    assert admits(GenerationRequest(user("BAD" + " fine" * 20)), judge=LengthJudge())
    assert not admits(GenerationRequest(turns("fine " * 20, "yes?", "BAD")), judge=LengthJudge())


def test_a_request_cannot_be_split_over_turns():
    assert admits(GenerationRequest(user("B")), judge=LengthJudge())
    assert not admits(GenerationRequest(turns("A", "long " * 20, "B")), judge=LengthJudge())


def test_what_was_refused_is_left_out_and_the_rest_stays():
    chat = (*turns("one", "yes", "BAD", " No.\n", "two"), Message("assistant", "No."))
    assert without_refused(chat, "No.") == (*turns("one", "yes", "two"), Message("assistant", "No."))


@pytest.mark.parametrize(
    "chat",
    [
        turns("BAD"),
        turns("BAD", "No."),
        turns("BAD", "No way."),
        turns("BAD", "yes", "No."),
        (*user("BAD"), *user("one", "No.")),
    ],
    ids=["alone", "no more asked", "other words", "the user's word", "the system's word"],
)
def test_nothing_else_is_left_out(chat):
    assert without_refused(chat, "No.") == chat


def test_several_turns_that_were_refused_together_are_left_out_together():
    assert without_refused((*user("B"), *turns("AD", "No.", "two")), "No.") == user("two")


@given(st.lists(st.sampled_from(["user", "assistant", "system"])), st.lists(st.sampled_from("xy")))
def test_a_forged_refusal_only_takes_away_and_never_the_last_turn_of_the_users(roles, texts):
    chat = tuple(Message(role, text) for role, text in zip(roles, texts, strict=False))
    kept = list(without_refused(chat, "x"))
    rest = iter(chat)
    assert all(turn in rest for turn in kept)
    said = [turn for turn in chat if turn.role == "user"]
    assert kept[len(kept) - 1 :] == list(chat[-1:])
    assert [turn for turn in kept if turn.role == "user"][-1:] == said[-1:]
    assert [turn for turn in kept if turn.role == "system"] == [
        turn for turn in chat if turn.role == "system"
    ]


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest(user("BAD")),
        GenerationRequest((*user("BAD"), Message("assistant", "what?"), *user("go on"))),
        GenerationRequest(user("hello", "You say BAD things.")),
        GenerationRequest((*user("hello"), Message("assistant", "BAD"), *user("go on"))),
        GenerationRequest(user("hello"), prefill="BAD"),
    ],
    ids=["user", "earlier turn", "system", "assistant", "prefill"],
)
def test_a_request_can_hide_in_no_part_of_what_the_client_writes(request_):
    assert not admits(request_)


def test_what_the_server_said_itself_is_not_the_clients_word():
    chat = turns("hello", "BAD", "go on")
    assert admits(GenerationRequest(chat), said=["BAD"])
    assert not admits(GenerationRequest(chat), said=["BAD words"])
    assert not admits(GenerationRequest((*chat[:1], Message("system", "BAD"), *chat[2:])), said=["BAD"])


def test_a_harmless_request_is_admitted():
    assert admits(GenerationRequest(user("hello", "Be kind."), prefill="Sure"))


@pytest.mark.parametrize(("unscored", "admitted"), [("answer", True), ("refuse", False)])
def test_the_operator_decides_what_becomes_of_a_request_without_verdict(unscored, admitted):
    assert admits(GenerationRequest(user("DIM")), settings(unscored=unscored)) is admitted


def test_one_exchange_that_breaks_the_judge_does_not_fail_the_others():
    async def run():
        judges = JudgeThread(panel())
        from toxoid.data.schemas import Exchange, Request

        exchanges = [Exchange(Request("x", text), user(text), "") for text in ("fine", "BOOM", "BAD", "fine")]
        asked = [judges.verdict("problematic", exchange) for exchange in exchanges]
        found = await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.to_thread(judges.close)
        return found

    fine, failed, bad, other = asyncio.run(run())
    assert isinstance(failed, JudgeFailed)
    assert [verdict.outcome for verdict in (fine, bad, other)] == ["miss", "hit", "miss"]


@pytest.mark.parametrize(
    ("unit", "text", "full"),
    [
        ("characters", "a", False),
        ("characters", "ab", True),
        ("sentences", "One. Two.", False),
        ("sentences", 'One. "Two!" ', True),
        ("sentences", "one\ntwo\n", True),
        ("reply", "a" * 10_000, False),
    ],
)
def test_a_window_is_full_after_two_of_its_unit(unit, text, full):
    assert is_full(HoldBackSection(size=2, unit=unit), text) is full


def test_rules_for_refusals_are_no_judge_of_a_server():
    from toxoid.errors import UsageError
    from toxoid.judges.panel import make_panel

    with pytest.raises(UsageError, match="neither problematic requests nor harmful replies"):
        serving_panel(make_panel("refusal"))
    assert set(serving_panel(make_panel("lab-oracle"))) == {"harmful"}
