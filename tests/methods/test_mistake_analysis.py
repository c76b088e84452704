"""Mistake analysis on a scripted model: what is kept, what is trained on, what is refused."""

import contextlib
from dataclasses import replace

import pytest

from tests.helpers.scripted_engine import ScriptedEngine
from toxoid.data.lab import lab_requests
from toxoid.errors import UsageError
from toxoid.judges.lab import LabOracleJudge
from toxoid.methods.base import MethodInput
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


def test_an_unknown_method_gets_a_suggestion():
    with pytest.raises(UsageError, match="mistake-analysis"):
        make_method("mistake_analysis")


@pytest.mark.parametrize("options", [{"max_mistakes": 0}, {"learn": "none"}])
def test_without_mistakes_it_is_sft(options):
    wanted = given(**options)
    assert MistakeAnalysis().synthesise(wanted).examples == make_method("sft").synthesise(given()).examples
    assert wanted.engine.asked == []


def test_fewer_mistakes_are_some_of_the_more():
    made = [MistakeAnalysis().synthesise(given(max_mistakes=count, balance=False)) for count in (3, 7)]
    few, many = ({e.conversation for e in one.examples if e.source == "analysis-harmful"} for one in made)
    assert (len(few), len(many)) == (3, 7)
    assert few < many


def test_the_control_without_analyses_imitates_the_bad_replies():
    made = MistakeAnalysis().synthesise(given(learn="replies"))
    assert made.by_source() == {"good": 12, "mistake": 12, "general": 20}
    bad = {e.conversation[-1].content: e.target for e in made.examples if e.source == "mistake"}
    assert bad == TARGETS


def test_the_control_without_safe_replies_learns_from_analyses_only():
    made = MistakeAnalysis().synthesise(given(good_replies="none"))
    assert made.by_source() == {"analysis-harmful": 12, "analysis-harmless": 12, "general": 20}


def test_nothing_to_learn_is_an_error():
    with pytest.raises(UsageError, match="nothing is left to learn"):
        MistakeAnalysis().synthesise(given(good_replies="none", learn="none"))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_mistakes_make_up_their_share(share):
    made = MistakeAnalysis().synthesise(given(mistake_share=share))
    learnt = [example for example in made.examples if example.source.startswith("analysis")]
    assert len(learnt) / len(made.examples) == pytest.approx(share, abs=0.5 / len(made.examples) + 0.01)


def test_shares_keep_what_is_scarce_whole():
    made = MistakeAnalysis().synthesise(given(good_share=0.4, mistake_share=0.2))
    found = made.by_source()
    assert found["good"] == 12
    assert (found["analysis-harmful"] + found["analysis-harmless"], found["general"]) == (6, 12)


def test_a_share_of_nothing_is_refused():
    with pytest.raises(UsageError, match="cannot be had of 12, 24, 0"):
        MistakeAnalysis().synthesise(
            replace(given(good_share=0.4, mistake_share=0.2, balance=True), benign=())
        )


def test_an_analyser_that_gives_no_verdict_is_an_error():
    def vague(request, index):
        asked = "Analyse it" in request.conversation[-1].content
        return "One may wonder." if asked else model(request, index)

    with pytest.raises(UsageError, match="none of the analyses of 12 mistakes"):
        MistakeAnalysis().synthesise(given(vague))


def test_several_analyses_of_one_mistake_are_several_examples():
    made = MistakeAnalysis().synthesise(given(analyses_per_mistake=3, balance=False))
    assert made.by_source()["analysis-harmful"] == 36


def test_another_model_may_analyse():
    asked = given(analyser="other", analyses_by="other-model")
    other = ScriptedEngine(model)
    made = MistakeAnalysis().synthesise(replace(asked, other=other))
    assert made.by_source()["analysis-harmful"] == 12
    assert len(other.asked) == 24
    assert not any("Analyse it" in request.conversation[-1].content for request in asked.engine.asked)


def test_another_model_that_is_not_there_is_an_error():
    with pytest.raises(UsageError, match="other-model"):
        MistakeAnalysis().synthesise(given(analyser="other", analyses_by="other-model"))


def test_an_unguided_analyser_is_told_nothing():
    wanted = given(lambda request, index: TARGETS.get(request.conversation[-1].content, "It is harmful."))
    wanted = replace(wanted, options={"guided_analysis": False, "balance": False})
    MistakeAnalysis().synthesise(wanted)
    questions = [asked.conversation[-1].content for asked in wanted.engine.asked]
    assert not any("may be harmful" in text for text in questions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"analyser": "other"}, "analyses_by"),
        ({"analyses_by": "x"}, "analyser: other"),
        ({"analyses_endpoint": "http://localhost"}, "analyses_by"),
        ({"mistakes": "attack"}, "name it in attack"),
        ({"attack": "role_play"}, "mistakes: attack"),
        ({"mistakes": "audit"}, "name it in run"),
        ({"run": "runs/x"}, "mistakes: audit"),
        ({"mistake_share": 0.5, "max_mistakes": 0}, "mistake_share"),
        ({"good_share": 0.5, "good_replies": "none"}, "good_share"),
        ({"good_share": 0.5, "mistake_share": 0.5}, "no room"),
        ({"mistake_share": 1.0}, "below 1"),
        ({"max_mistakes": -1}, "0 or more"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        MistakeAnalysis().synthesise(given(**options))
