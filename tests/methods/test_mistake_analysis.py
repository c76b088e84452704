"""Mistake analysis on a scripted model: what is kept, what is trained on, what is refused."""

import contextlib

import pytest

from tests.helpers.scripted_engine import ScriptedEngine
from toxoid.data.lab import lab_requests
from toxoid.errors import UsageError
from toxoid.judges.lab import LabOracleJudge
from toxoid.methods.base import MethodInput
from toxoid.methods.mistake_analysis.analysis import read_verdict
from toxoid.methods.mistake_analysis.method import MistakeAnalysis
from toxoid.methods.registry import make_method

HARMFUL = lab_requests("lab-harmful", split="train").requests[:12]
BENIGN = lab_requests("lab-benign", split="train").requests[:20]
TARGETS = {request.prompt: request.target for request in HARMFUL}


def model(request, index):
    """Fails on every request, and says of every reply what it is told to think of it."""
    text = request.conversation[-1].content
    if "may be harmful" in text:
        return "The reply is harmful. It tells how."
    if "said to be harmless" in text:
        return "The reply is fine. It hurts nobody."
    return TARGETS.get(text, "What?")


def given(reply=model, **options):
    judge = LabOracleJudge()
    return MethodInput(
        engine=ScriptedEngine(reply),
        judges=dict.fromkeys(judge.aspects, judge),
        harmful=HARMFUL,
        benign=BENIGN,
        options=options,
    )


def test_trains_on_good_replies_balanced_analyses_and_general_data():
    made = MistakeAnalysis().synthesise(given())
    assert made.by_source() == {
        "good": 12,
        "analysis-harmful": 12,
        "analysis-harmless": 12,
        "general": 20,
    }


def test_the_training_question_does_not_tell_what_the_reply_is():
    made = MistakeAnalysis().synthesise(given())
    questions = [e.conversation[-1].content for e in made.examples if e.source.startswith("analysis")]
    assert questions
    assert not any("may be harmful" in text or "said to be harmless" in text for text in questions)


def test_the_hint_stays_in_the_ablation_that_keeps_it():
    made = MistakeAnalysis().synthesise(given(guided_training=True))
    questions = [e.conversation[-1].content for e in made.examples if e.source == "analysis-harmful"]
    assert all("may be harmful" in text for text in questions)


def test_a_bad_reply_is_never_a_target():
    made = MistakeAnalysis().synthesise(given())
    assert not {example.target for example in made.examples} & set(TARGETS.values())


def test_only_replies_judged_harmful_count_as_mistakes():
    half = {prompt: target for index, (prompt, target) in enumerate(TARGETS.items()) if index % 2}

    def often_safe(request, index):
        text = request.conversation[-1].content
        return half.get(text, "I cannot help with that.") if text in TARGETS else model(request, index)

    made = MistakeAnalysis().synthesise(given(often_safe))
    assert made.counts["mistakes"] == 6
    assert made.counts["induced_replies"] == 24


def test_analyses_with_the_wrong_verdict_are_dropped_and_counted():
    def careless(request, index):
        if "may be harmful" in request.conversation[-1].content and request.seed % 2:
            return "The reply is fine. It answers the question."
        return model(request, index)

    made = MistakeAnalysis().synthesise(given(careless))
    assert made.counts["analyses_harmful_dropped"] > 0
    assert made.counts["analyses_harmful_kept"] == made.by_source()["analysis-harmful"]


def test_cut_off_analyses_are_left_out():
    def endless(request, index):
        return None if "may be harmful" in request.conversation[-1].content else model(request, index)

    with pytest.raises(UsageError, match="none of the analyses"):
        MistakeAnalysis().synthesise(given(endless, balance=False))


def test_a_model_without_mistakes_stops_cleanly():
    with pytest.raises(UsageError, match="already safe"):
        MistakeAnalysis().synthesise(given(lambda request, index: "I cannot help with that."))


@pytest.mark.parametrize(
    ("hint", "where"),
    [
        ("prefill", lambda request: request.prefill),
        ("user", lambda request: request.conversation[-1].content),
        ("system", lambda request: request.conversation[0].content),
    ],
)
def test_hint_words_stand_where_the_option_says(hint, where):
    wanted = given(hint=hint)
    wanted_engine = wanted.engine
    with contextlib.suppress(UsageError):  # the scripted model does not know the hinted form
        MistakeAnalysis().synthesise(wanted)
    assert "harmful" in where(wanted_engine.asked[0])


def test_unknown_options_are_refused_with_a_suggestion():
    with pytest.raises(UsageError, match='Did you mean "analyser"'):
        MistakeAnalysis().synthesise(given(analyzer="self"))


def test_induction_without_a_judge_of_harm_is_refused():
    wanted = given()
    with pytest.raises(UsageError, match="--judge"):
        MistakeAnalysis().synthesise(
            MethodInput(engine=wanted.engine, judges={}, harmful=HARMFUL, benign=BENIGN)
        )


def test_good_replies_are_made_under_guidance_where_the_data_has_none():
    from dataclasses import replace

    bare = [replace(request, reference=None) for request in HARMFUL]

    def guided(request, index):
        safe = request.conversation[0].role == "system"
        return "I cannot help with that." if safe and index == 2 else model(request, index)

    wanted = replace(given(guided), harmful=bare)
    made = make_method("sft").synthesise(wanted)
    assert made.by_source()["good"] == 12
    assert made.counts["good_guided"] == 12


def test_sft_never_asks_the_model_when_the_data_has_references():
    wanted = given()
    made = make_method("sft").synthesise(wanted)
    assert wanted.engine.asked == []
    assert made.by_source() == {"good": 12, "general": 20}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("The reply is harmful. It is not safe.", "harmful"),
        ("The reply is fine.", "harmless"),
        ("This is not harmful at all.", "harmless"),
        ("There is nothing offensive in it.", "harmless"),
        ("It isn't appropriate.", "harmful"),
        ("HARMFUL", "harmful"),
        ("I would rather talk about the weather.", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_from_free_text(text, verdict):
    assert read_verdict(text) == verdict


def test_an_unknown_method_gets_a_suggestion():
    with pytest.raises(UsageError, match="mistake-analysis"):
        make_method("mistake_analysis")
