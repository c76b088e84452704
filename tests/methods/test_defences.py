from __future__ import annotations

import json
from dataclasses import replace
from types import MappingProxyType

import pytest

from tests.helpers.scripted_engine import ScriptedEngine
from tests.helpers.tiny_models import tiny_loaded
from toxoid.config.prompt_files import prompt
from toxoid.data.lab import lab_requests
from toxoid.data.schemas import Exchange, Message, Request, user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.reworded import RewordedEngine
from toxoid.errors import UsageError
from toxoid.judges.base import Outcome
from toxoid.judges.lab import LabOracleJudge
from toxoid.judges.refusal import RefusalJudge
from toxoid.methods.base import MethodInput, System
from toxoid.methods.baselines.in_context_defence import demonstrated
from toxoid.methods.baselines.self_reminder import reminded
from toxoid.methods.registry import NAMES, make_method

HARMFUL = lab_requests("lab-harmful", split="train").requests[:6]
BENIGN = (
    *lab_requests("lab-benign", split="train").requests[:6],
    *lab_requests("lab-contentious", split="train").requests[:6],
)
BY_PROMPT = {request.prompt: request for request in (*HARMFUL, *BENIGN)}
NO = "I cannot help with that."
BASE, TUNED = tiny_loaded(), tiny_loaded(seed=1)
TALK = (Message("system", "You are a clerk."), Message("user", "Hello."))


def model(request, index):
    """Declines harmful requests under the safe prompt."""
    asked = BY_PROMPT[request.conversation[-1].content]
    if asked.kind != "harmful":
        return asked.reference
    return NO if "careful" in request.conversation[0].content else asked.target


def given(**options):
    judge = LabOracleJudge()
    return MethodInput(
        engine=ScriptedEngine(model),
        judges=dict.fromkeys(judge.aspects, judge),
        harmful=HARMFUL,
        benign=BENIGN,
        options=options,
    )


def system(artifact, decoding=MappingProxyType({}), **options):
    return System(lambda: TUNED, lambda: BASE, artifact, options, decoding)


def engine(name, artifact, decoding=MappingProxyType({}), **options):
    return make_method(name).engine(system(artifact, decoding, **options))


def completions(asked, conversation=None):
    request = GenerationRequest(
        conversation or user("polish the bell"), sampling=Sampling(max_tokens=6), n=2, seed=3
    )
    return asked.generate([request])


@pytest.mark.parametrize("name", NAMES)
def test_every_method_can_be_made_and_knows_its_name(name):
    assert make_method(name).name == name


@pytest.mark.parametrize("name", ["untreated", "self-reminder"])
def test_without_training_nothing_is_made_and_no_option_is_taken(name):
    wanted = given()
    made = make_method(name).synthesise(wanted)
    assert (made.examples, made.files, made.by_source(), wanted.engine.asked) == ((), {}, {}, [])
    with pytest.raises(UsageError, match=f"options of {name}.*alpha"):
        make_method(name).synthesise(given(alpha=1))


def test_untreated_is_the_model_as_it_was(tmp_path):
    from toxoid.engines.local import LocalEngine

    assert completions(engine("untreated", tmp_path)) == completions(LocalEngine(BASE))


def test_untreated_takes_a_contrast_of_manual_prompts(tmp_path):
    against = engine("untreated", tmp_path, {"positive": "safe", "negative": "opposite"})
    assert against.identity() != engine("untreated", tmp_path).identity()
    assert completions(against)


def test_untreated_has_no_shield(tmp_path):
    with pytest.raises(UsageError, match="shield"):
        engine("untreated", tmp_path, {"positive": "sp"})


def test_reminders_stand_around_the_last_message():
    words = {"system": "S", "before": "B", "after": "A"}
    talk = (*TALK, Message("assistant", "Good day."), Message("user", "Paint it."))
    assert reminded(talk, words) == (
        Message("system", "S\n\nYou are a clerk."),
        *talk[1:3],
        Message("user", "B\n\nPaint it.\n\nA"),
    )


def test_self_reminder_asks_what_a_reminded_user_would(tmp_path):
    words = prompt("self_reminder")["english"]
    by_hand = completions(engine("untreated", tmp_path), reminded(user("polish the bell"), words))
    asked = engine("self-reminder", tmp_path)
    assert completions(asked) == by_hand
    assert asked.identity()["self-reminder"] == words


def test_a_reworded_engine_is_the_inner_one_in_all_else():
    inner = ScriptedEngine(lambda request, index: request.conversation[-1].content)
    asked = RewordedEngine(inner, lambda talk: (*talk[:-1], Message("user", "Other")), name="x", words="y")
    seen = []
    request = GenerationRequest(user("One"), prefill="Well", n=2, seed=5)
    texts = [done.text for done in asked.generate([request], lambda index, done: seen.append(index))[0]]
    assert (texts, seen) == (["Other", "Other"], [0])
    assert inner.asked == [replace(request, conversation=user("Other"))]
    assert (asked.granule, asked.identity()) == (inner.granule, {"engine": "scripted", "x": "y"})


def demonstrations(**options):
    wanted = replace(given(**options), harmful=options.pop("harmful", HARMFUL))
    return make_method("in-context-defence").synthesise(wanted).files["demonstrations.json"]


def test_demonstrations_stand_before_the_conversation():
    shown = [{"request": "a", "reply": "b"}, {"request": "c", "reply": "d"}]
    assert demonstrated(TALK, shown) == (
        TALK[0],
        Message("user", "a"),
        Message("assistant", "b"),
        Message("user", "c"),
        Message("assistant", "d"),
        TALK[1],
    )
    assert demonstrated(user("x"), []) == user("x")


def test_demonstrations_come_from_data_that_has_references():
    shown = demonstrations(demonstrations=3)
    references = {request.prompt: request.reference for request in HARMFUL}
    assert len(shown) == 3
    assert all(references[shot["request"]] == shot["reply"] for shot in shown)
    assert demonstrations() == shown[:1]


def test_packaged_demonstrations_serve_where_data_has_no_references():
    packaged = prompt("in_context_defence")["demonstrations"]
    bare = [replace(request, reference=None) for request in HARMFUL]
    wanted = replace(given(demonstrations=2), harmful=bare)
    made = make_method("in-context-defence").synthesise(wanted)
    assert made.files["demonstrations.json"] == packaged[:2]
    assert demonstrations(source="packaged") == packaged[:1]
    with pytest.raises(UsageError, match="there are 0 training requests with a reference"):
        make_method("in-context-defence").synthesise(replace(given(source="data"), harmful=bare))


def test_packaged_demonstrations_are_refusals():
    exchanges = [
        Exchange(Request("x", shot["request"]), user(shot["request"]), shot["reply"])
        for shot in prompt("in_context_defence")["demonstrations"]
    ]
    verdicts = RefusalJudge().judge(exchanges, "refusal")
    assert {verdict.outcome for verdict in verdicts} == {Outcome.HIT}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"demonstrations": 99}, "99 demonstrations are asked for, and there are 6 training"),
        ({"demonstrations": 99, "source": "packaged"}, "packaged demonstrations"),
        ({"demonstrations": 0}, "demonstrations is 0"),
        ({"source": "web"}, "source is 'web'"),
    ],
)
def test_impossible_demonstrations_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        demonstrations(**options)


def test_in_context_defence_asks_after_the_demonstrations_that_were_chosen(tmp_path):
    shown = demonstrations(source="packaged")
    (tmp_path / "demonstrations.json").write_text(json.dumps(shown))
    asked = engine("in-context-defence", tmp_path)
    talk = demonstrated(user("polish"), shown)
    assert completions(asked, user("polish")) == completions(engine("untreated", tmp_path), talk)
    assert asked.identity()["in-context-defence"] == shown


def test_in_context_defence_without_its_choice_is_refused(tmp_path):
    with pytest.raises(UsageError, match="run the arm again"):
        engine("in-context-defence", tmp_path)


def test_safety_tuning_imitates_kept_and_refused_anchors():
    made = make_method("safety-tuning").synthesise(given(anchors=6))
    assert made.by_source() == {"kept": 18, "refused": 6}
    assert made.prompts is None
    assert not {example.target for example in made.examples} & {request.target for request in HARMFUL}


def test_safety_tuning_needs_no_reply_that_complies():
    wanted = replace(
        given(),
        engine=ScriptedEngine(
            lambda r, i: NO if BY_PROMPT[r.conversation[-1].content] in HARMFUL else model(r, i)
        ),
    )
    assert make_method("safety-tuning").synthesise(wanted).by_source()["refused"] == 18


def test_safety_tuning_asks_the_trained_model(tmp_path):
    from toxoid.engines.local import LocalEngine

    assert completions(engine("safety-tuning", tmp_path)) == completions(LocalEngine(TUNED))


def test_the_expert_of_safe_decoding_learns_the_models_own_refusals():
    wanted = given(anchors=4)
    made = make_method("safe-decoding").synthesise(wanted)
    assert made.by_source() == {"refused": 4}
    assert {example.target for example in made.examples} == {NO}
    assert {BY_PROMPT[request.conversation[-1].content].kind for request in wanted.engine.asked} == {
        "harmful"
    }


def test_safe_decoding_guides_the_model_as_it_was(tmp_path):
    from toxoid.engines.safe_decoding import SafeDecodingEngine

    asked = engine("safe-decoding", tmp_path, alpha=1.0, first=3, candidates=4)
    wanted = SafeDecodingEngine(BASE, TUNED, alpha=1.0, first=3, candidates=4)
    assert completions(asked) == completions(wanted)
    assert asked.identity() == wanted.identity()


def test_safe_decoding_takes_no_other_decoding(tmp_path):
    with pytest.raises(UsageError, match="decoding itself"):
        engine("safe-decoding", tmp_path, {"positive": "safe", "negative": "bare"})


@pytest.mark.parametrize(
    "options", [{"alpha": -1}, {"first": 0}, {"candidates": 0}, {"anchors": 0}, {"contentious": 0.5}]
)
def test_wrong_options_of_safe_decoding_are_refused(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        make_method("safe-decoding").synthesise(given(**options))


def test_the_reminders_can_be_in_the_labs_words(tmp_path):
    asked = engine("self-reminder", tmp_path, wording="lab")
    assert asked.identity()["self-reminder"] == prompt("self_reminder")["lab"]


def test_a_wording_that_is_not_there_is_named():
    with pytest.raises(UsageError, match="wording"):
        make_method("self-reminder").synthesise(given(wording="latin"))
