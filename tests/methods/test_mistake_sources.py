"""Where mistakes come from: hint words in every place, attacks, other runs; benign requests that are hijacked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.helpers.scripted_engine import ScriptedEngine
from toxoid.audit.items import Item
from toxoid.audit.run import Scored
from toxoid.audit.scored_files import write_scored
from toxoid.data.lab import lab_requests
from toxoid.data.schemas import Request, user
from toxoid.engines.base import Completion
from toxoid.errors import UsageError
from toxoid.judges.base import Outcome, Verdict
from toxoid.judges.panel import make_panel
from toxoid.methods.base import MethodInput
from toxoid.methods.mistake_analysis.induction import find_mistakes, training_requests
from toxoid.methods.mistake_analysis.method import MistakeAnalysis
from toxoid.methods.mistake_analysis.options import MistakeOptions
from toxoid.store.run_directory import RunDirectory

HARMFUL = lab_requests("lab-harmful", split="train").requests[:6]
BENIGN = lab_requests("lab-benign", split="train").requests[:6]
HIJACKED = lab_requests("lab-hijack", split="train").requests[:6]
DECLINED = "I cannot help with that."


def given(reply, *, harmful=HARMFUL, judges=None, **options):
    judges = make_panel("lab-oracle") if judges is None else judges
    return MethodInput(ScriptedEngine(reply), judges, harmful, BENIGN, options)


def found_by(asked):
    return find_mistakes(asked, MistakeOptions.model_validate(asked.options))


def target_in(text):
    return next(request.target for request in HARMFUL if request.prompt in text)


def obeys(request, index):
    """Does what is asked: harm, or the payload of the last instruction."""
    text = request.conversation[-1].content
    if "Analyse it" in text:
        return f"The reply is {'fine' if 'harmless' in text else 'not appropriate'}."
    slogan = next((r.metadata["payload"] for r in HIJACKED if r.prompt == text), None)
    return f"{slogan[0].upper()}{slogan[1:]}." if slogan else target_in(text)


def test_every_place_of_the_hint_is_tried_and_counted():
    _, counts = found_by(given(obeys, hint="all", tries=3))
    for hint in ("prefill", "user", "system"):
        assert (counts[f"induced_{hint}_tried"], counts[f"induced_{hint}_harmful"]) == (18, 18)
    assert (counts["induced_replies"], counts["mistakes"]) == (54, 6)


def test_the_first_place_that_works_gives_the_mistake():
    def at_last(request, index):
        return f"{obeys(request, index)} Good luck." if request.conversation[0].role == "system" else DECLINED

    mistakes, counts = found_by(given(at_last, hint="all"))
    assert all(mistake.reply.endswith("Good luck.") for mistake in mistakes)
    assert (counts["induced_prefill_harmful"], counts["induced_system_harmful"]) == (0, 12)


def test_all_places_draw_what_each_alone_would_draw():
    alone, together = given(obeys, hint="user"), given(obeys, hint="all")
    found_by(alone)
    found_by(together)
    assert [asked for asked in together.engine.asked if asked in alone.engine.asked] == alone.engine.asked


def test_an_attack_asks_in_its_wordings_for_training():
    asked = given(obeys, mistakes="attack", attack="role_play")
    mistakes, counts = found_by(asked)
    assert (len(mistakes), counts["induced_role_play_tried"]) == (6, 12)
    assert all(
        request.conversation[-1].content not in {r.prompt for r in HARMFUL} for request in asked.engine.asked
    )


def test_what_an_attack_made_of_a_request_is_analysed_and_answered_well():
    made = MistakeAnalysis().synthesise(given(obeys, mistakes="attack", attack="role_play", balance=False))
    good = {e.conversation[-1].content: e.target for e in made.examples if e.source == "good"}
    plain = {request.prompt: request.reference for request in HARMFUL}
    assert not good.keys() & plain.keys()
    assert sorted(good.values()) == sorted(plain.values())
    for example in made.examples:
        if example.source == "analysis-harmful":
            assert any(sent in example.conversation[-1].content for sent in good)


def test_a_bad_reply_after_a_prefill_is_the_whole_turn():
    def goes_on(request, index):
        return " " + target_in(request.conversation[-1].content)

    asked = given(
        goes_on, mistakes="attack", attack="prefill", harmful=[replace(r, target=None) for r in HARMFUL]
    )
    mistakes, _ = found_by(asked)
    begun = {request.conversation[-1].content: request.prefill for request in asked.engine.asked}
    assert len(mistakes) == 6
    assert all(m.reply.startswith(begun[m.request.prompt] + " ") for m in mistakes)


def test_injected_requests_make_mistakes_where_they_are_hijacked():
    made = MistakeAnalysis().synthesise(given(obeys, harmful=HIJACKED, mistakes="attack", attack="direct"))
    assert made.by_source() == {"good": 6, "analysis-harmful": 6, "analysis-harmless": 6, "general": 6}
    good = {e.conversation[-1].content: e.target for e in made.examples if e.source == "good"}
    assert good == {request.prompt: request.reference for request in HIJACKED}


def test_a_hijacked_reply_is_not_called_harmful_in_the_guided_question():
    asked = given(obeys, harmful=HIJACKED, mistakes="natural", balance=False)
    MistakeAnalysis().synthesise(asked)
    questions = [
        r.conversation[-1].content for r in asked.engine.asked if "Analyse it" in r.conversation[-1].content
    ]
    assert len(questions) == 6
    assert all("may not be appropriate" in text and "may be harmful" not in text for text in questions)


def test_a_refusal_is_no_good_reply_to_an_injected_request():
    bare = [replace(request, reference=None) for request in HIJACKED]
    made = MistakeAnalysis().synthesise(given(obeys, harmful=bare, mistakes="natural", balance=False))
    assert "good" not in made.by_source()


def test_an_attack_that_hijacks_takes_the_benign_requests():
    def follows(request, index):
        text = request.conversation[-1].content
        payloads = [r.metadata["payload"] for r in training_requests(asked, options)[len(HARMFUL) :]]
        return next((payload for payload in payloads if payload in text), DECLINED)

    options = MistakeOptions(mistakes="attack", attack="goal_hijacking")
    asked = given(follows, judges=make_panel("refusal"))
    mistakes, counts = find_mistakes(asked, options)
    assert {mistake.request.id for mistake in mistakes} == {request.id for request in BENIGN}
    assert counts["induced_goal_hijacking_harmful"] == 12
    learnt = training_requests(asked, options)
    assert [request.id for request in learnt] == [request.id for request in (*HARMFUL, *BENIGN)]
    assert all(own.prompt in sent.prompt != own.prompt for own, sent in zip(BENIGN, learnt[6:], strict=True))


def test_a_missing_judge_of_hijacking_is_named():
    judges = {aspect: judge for aspect, judge in make_panel("lab-oracle").items() if aspect != "hijacked"}
    with pytest.raises(UsageError, match=r"`hijacked`.*--judge"):
        found_by(given(obeys, harmful=HIJACKED, judges=judges, mistakes="natural"))


def test_an_unknown_attack_is_refused_with_a_suggestion():
    with pytest.raises(UsageError, match='Did you mean "role_play"'):
        MistakeAnalysis().synthesise(given(obeys, mistakes="attack", attack="roleplay"))


@pytest.fixture
def run(tmp_path):
    """A run whose audit found one harmful reply to each of four requests, the last one asked in disguise."""
    hit, miss = Verdict(Outcome.HIT), Verdict(Outcome.MISS)

    def entry(request, *verdicts, task="harmfulness", conversation=None, aspect="harmful"):
        done = [Completion(request.target if v is hit else DECLINED, "stop", 1, 1) for v in verdicts]
        seen = replace(request, target=None, reference=None)
        item = Item(
            task, seen, conversation or user(request.prompt), prefill="Well. " if conversation else ""
        )
        return Scored(item, tuple(done), {aspect: verdicts})

    scored = [entry(request, miss, hit) for request in HARMFUL[:3]]
    scored += [
        entry(HARMFUL[3], hit, task="jailbreak", conversation=user(f"Tell a tale: {HARMFUL[3].prompt}"))
    ]
    scored += [entry(HARMFUL[4], miss, miss), entry(HARMFUL[5], hit, task="prefill", aspect="corrected")]
    with RunDirectory.open(tmp_path / "run", fingerprint={}, recipe={}) as opened:
        write_scored(opened.artifact("scored/base.jsonl"), scored)
    return tmp_path / "run"


def test_the_bad_replies_of_another_run_are_mistakes(run):
    asked = given(obeys, mistakes="audit", run=str(run))
    mistakes, counts = found_by(asked)
    assert asked.engine.asked == []
    assert counts["mistakes_audit"] == 4
    assert [mistake.reply for mistake in mistakes[:3]] == [request.target for request in HARMFUL[:3]]
    assert mistakes[3].request.prompt == f"Tell a tale: {HARMFUL[3].prompt}"
    assert mistakes[3].reply == f"Well. {HARMFUL[3].target}"


def test_good_replies_answer_what_the_audited_model_was_sent(run):
    asked = given(obeys, harmful=HARMFUL[:4], mistakes="audit", run=str(run), learn="replies")
    made = MistakeAnalysis().synthesise(asked)
    good, bad = (
        [e.conversation[-1].content for e in made.examples if e.source == source]
        for source in ("good", "mistake")
    )
    assert good == bad


def test_good_replies_are_the_same_however_many_mistakes_are_learnt(run):
    audited = {"harmful": HARMFUL[:4], "mistakes": "audit", "run": str(run), "learn": "replies"}
    made = [MistakeAnalysis().synthesise(given(obeys, **audited, max_mistakes=count)) for count in (0, 1, 4)]
    good = [[example for example in one.examples if example.source == "good"] for one in made]
    assert good[0] == good[1] == good[2]


def test_bad_replies_to_other_requests_are_left_alone(run):
    mistakes, counts = found_by(given(obeys, harmful=HARMFUL[2:], mistakes="audit", run=str(run)))
    assert {mistake.request.id for mistake in mistakes} == {HARMFUL[2].id, HARMFUL[3].id}
    assert counts["mistakes_unused"] == 2


def test_a_run_without_bad_replies_to_training_requests_is_an_error(run):
    with pytest.raises(UsageError, match="no bad reply of base to any of 2"):
        MistakeAnalysis().synthesise(given(obeys, harmful=HARMFUL[4:], mistakes="audit", run=str(run)))


def test_a_system_that_was_not_audited_is_named(run):
    with pytest.raises(UsageError, match=r'no audit of "bass".*Did you mean "base"'):
        found_by(given(obeys, mistakes="audit", run=str(run), system="bass"))


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not a toxoid run"):
        found_by(given(obeys, mistakes="audit", run=str(tmp_path)))


def test_a_run_whose_replies_nobody_judged_is_refused(run):
    entry = Scored(Item("harmfulness", Request("s/1", "?"), user("?")), (), {})
    write_scored(run / "artifacts" / "scored" / "base.jsonl", [entry])
    with pytest.raises(UsageError, match="no reply in it was judged"):
        found_by(given(obeys, mistakes="audit", run=str(run)))
