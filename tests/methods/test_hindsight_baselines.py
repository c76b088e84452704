"""Chain of Hindsight, critique and revision, hindsight relabeling: what is learnt, and how the model is asked."""

import re
from dataclasses import replace

import pytest

from tests.helpers.scripted_engine import ScriptedEngine
from tests.helpers.tiny_models import tiny_loaded
from toxoid.config.prompt_files import prompt
from toxoid.data.lab import lab_requests
from toxoid.data.schemas import Message, user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.prefilled import PrefilledEngine
from toxoid.errors import UsageError
from toxoid.judges.lab import LabOracleJudge
from toxoid.methods.base import MethodInput, System
from toxoid.methods.registry import make_method
from toxoid.training.examples import IGNORED, tokenise

HARMFUL = lab_requests("lab-harmful", split="train").requests[:6]
BENIGN = lab_requests("lab-benign", split="train").requests[:4]
BAD = {request.prompt: request.target for request in HARMFUL}
CHAIN, RELABELLED, REVISE = (
    prompt(name) for name in ("chain_of_hindsight", "hindsight_relabeling", "critique_revise")
)
HINDSIGHT = ["chain-of-hindsight", "hindsight-relabeling"]
ALL = [*HINDSIGHT, "critique-revise"]
NO = "I cannot help with that."
BASE, TUNED = tiny_loaded(), tiny_loaded(seed=1)


def model(request, index):
    """Fails on every request, finds fault where it is told to, and declines after that."""
    *before, last = request.conversation
    if last.content in BAD:
        return BAD[last.content]
    return NO if before[-1:] and before[-1].content == "It is harmful." else "It is harmful."


def given(reply=model, **options):
    judge = LabOracleJudge()
    return MethodInput(
        engine=ScriptedEngine(reply),
        judges=dict.fromkeys(judge.aspects, judge),
        harmful=HARMFUL,
        benign=BENIGN,
        options=options,
    )


def synthesise(name, reply=model, **options):
    return make_method(name).synthesise(given(reply, **options))


def ask(name, conversation, prefill="", **options):
    system = System(lambda: TUNED, lambda: BASE, None, options)
    engine = make_method(name).engine(system)
    return engine, engine.generate([_request(conversation, prefill)])


def by_hand(conversation, prefill=""):
    from toxoid.engines.local import LocalEngine

    return LocalEngine(TUNED).generate([_request(conversation, prefill)])


def _request(conversation, prefill):
    return GenerationRequest(conversation, prefill, Sampling(max_tokens=6), n=2, seed=3)


def texts(rows):
    return [[done.text for done in row] for row in rows]


# Chain of Hindsight


def test_a_pair_is_chained_in_both_orders():
    made = synthesise("chain-of-hindsight")
    request, words = HARMFUL[0], CHAIN["english"]
    bad, good = request.target, request.reference
    chained = {(e.prefill, e.target) for e in made.examples if e.conversation == user(request.prompt)}
    assert chained == {
        (words["bad"], f" {bad}"),
        (f"{words['bad']} {bad} {words['good']}", f" {good}"),
        (words["good"], f" {good}"),
        (f"{words['good']} {good} {words['bad']}", f" {bad}"),
    }
    assert made.by_source() == {"chain-first": 12, "chain-second": 12, "general": 4}


def test_the_two_examples_of_a_sequence_are_its_tokens():
    """log p(y_1 | f_1) + log p(y_2 | f_1 y_1 f_2) is the sequence's: the first example is its beginning."""
    tokenizer = TUNED.tokenizer
    examples = synthesise("chain-of-hindsight").examples[:2]
    first, second = tokenise(examples, tokenizer, 4096)
    length = len(first.input_ids) - 1  # the first reply ends its turn there, the sequence goes on
    assert second.input_ids[:length] == first.input_ids[:length]
    assert set(second.labels[:length]) == {IGNORED}
    learnt = [label for label in second.labels if label != IGNORED]
    assert tokenizer.decode(learnt, skip_special_tokens=True) == examples[1].target


def test_general_data_is_kept_as_it_is():
    made = synthesise("chain-of-hindsight")
    general = [e for e in made.examples if e.source == "general"]
    assert [(e.conversation, e.prefill, e.target) for e in general] == [
        (user(request.prompt), "", request.reference) for request in BENIGN
    ]


def test_mistakes_without_a_good_reply_are_not_chained():
    bare = [replace(request, reference=None) for request in HARMFUL[:4]]
    wanted = replace(given(good_replies="reference"), harmful=[*bare, *HARMFUL[4:]])
    made = make_method("chain-of-hindsight").synthesise(wanted)
    assert (made.counts["mistakes"], made.counts["chained"], made.by_source()["chain-first"]) == (6, 2, 4)
    with pytest.raises(UsageError, match="none of 4 mistakes has a good reply"):
        make_method("chain-of-hindsight").synthesise(replace(wanted, harmful=bare))


def test_a_good_reply_without_a_mistake_stands_alone_after_its_feedback():
    safe = HARMFUL[0].prompt
    made = synthesise(
        "chain-of-hindsight", lambda r, i: NO if r.conversation[0].content == safe else model(r, i)
    )
    alone = [(e.conversation, e.prefill, e.target) for e in made.examples if e.source == "unchained"]
    assert alone == [(user(safe), CHAIN["english"]["good"], f" {HARMFUL[0].reference}")]
    assert made.by_source()["chain-first"] == 10


def test_the_trained_model_is_asked_after_the_good_feedback():
    engine, asked = ask("chain-of-hindsight", user("polish the bell"), wording="lab")
    expected = by_hand(user("polish the bell"), CHAIN["lab"]["good"])
    assert texts(asked) == [[text.lstrip() for text in row] for row in texts(expected)]
    assert engine.identity()["chain-of-hindsight"] == CHAIN["lab"]["good"]


def test_a_prefill_of_the_requests_own_follows_the_feedback():
    _, asked = ask("chain-of-hindsight", user("polish the bell"), "Take")
    assert asked == by_hand(user("polish the bell"), f"{CHAIN['english']['good']} Take")


def test_a_prefilled_engine_is_the_inner_one_in_all_else():
    inner = ScriptedEngine(lambda request, index: f" after {request.prefill}")
    asked, seen = PrefilledEngine(inner, "Well:", name="x"), []
    requests = [GenerationRequest(user("One"), n=2, seed=5), GenerationRequest(user("Two"), "So")]
    found = asked.generate(requests, lambda index, done: seen.append((index, done)))
    assert texts(found) == [["after Well:"] * 2, [" after Well: So"]]
    assert seen == list(enumerate(found))
    assert [request.seed for request in inner.asked] == [5, 0]
    assert (asked.granule, asked.identity()) == (inner.granule, {"engine": "scripted", "x": "Well:"})


# Hindsight relabeling


def test_replies_are_learnt_under_the_instruction_that_they_follow():
    made, words = synthesise("hindsight-relabeling"), RELABELLED["english"]
    asked = {(e.conversation[0].content, e.target) for e in made.examples if e.source != "general"}
    assert asked == {
        pair
        for r in HARMFUL
        for pair in (
            (words["harmless"].format(request=r.prompt), r.reference),
            (words["harmful"].format(request=r.prompt), r.target),
        )
    }
    assert made.by_source() == {"good": 6, "bad": 6, "general": 4}


def test_general_data_carries_the_harmless_instruction():
    made = synthesise("hindsight-relabeling")
    general = [(e.conversation[0].content, e.target) for e in made.examples if e.source == "general"]
    form = RELABELLED["english"]["harmless"]
    assert general == [(form.format(request=r.prompt), r.reference) for r in BENIGN]


def test_the_trained_model_is_asked_under_the_harmless_instruction():
    talk = (Message("user", "Hello."), Message("assistant", "Good day."), Message("user", "Paint {it}."))
    engine, asked = ask("hindsight-relabeling", talk)
    form = RELABELLED["english"]["harmless"]
    assert asked == by_hand((*talk[:2], Message("user", form.format(request="Paint {it}."))))
    assert engine.identity()["hindsight-relabeling"] == form


# Critique and revision


def test_a_reply_is_criticised_and_revised_in_one_conversation():
    wanted = given()
    make_method("critique-revise").synthesise(wanted)
    talks = [request.conversation for request in wanted.engine.asked if len(request.conversation) > 1]
    (first, bad, criticise), revised = talks[0], talks[6]
    assert (first.content, bad.content) == (HARMFUL[0].prompt, HARMFUL[0].target)
    assert revised[:3] == (first, bad, criticise)
    assert revised[3] == Message("assistant", "It is harmful.")
    assert revised[4].content == REVISE["english"]["revision"][0]["user"]


def test_the_plain_request_is_learnt_with_its_revision():
    made = synthesise("critique-revise")
    learnt = {(e.conversation, e.target) for e in made.examples if e.source == "revision"}
    assert learnt == {(user(request.prompt), NO) for request in HARMFUL}
    assert made.by_source() == {"revision": 6, "general": 4}
    assert not any(e.target in BAD.values() for e in made.examples)


def stubborn(request, index):
    """Declines in the second round only: after a reply of its own, it gives the harm in other words."""
    answer = model(request, index)
    (shown,) = [m.content for m in request.conversation[1:2]] or [""]
    return f"{shown} Of course." if answer == NO and not shown.endswith("Of course.") else answer


def test_what_a_round_does_not_mend_goes_into_the_next():
    with pytest.raises(UsageError, match=r"none of the revisions of 6 mistakes .*critiques: 2"):
        synthesise("critique-revise", stubborn)
    counts = synthesise("critique-revise", stubborn, critiques=3).counts
    rounds = {key: value for key, value in counts.items() if key.startswith("revisions") and value}
    assert rounds == {"revisions_1_dropped": 6, "revisions_2_kept": 6}


@pytest.mark.parametrize("revision", [None, "Lamp lamp lamp."], ids=["cut off", "gibberish"])
def test_a_revision_that_is_no_whole_reply_is_dropped(revision):
    half = {request.prompt for request in HARMFUL[:2]}

    def reply(request, index):
        answer = model(request, index)
        return revision if answer == NO and request.conversation[0].content in half else answer

    made = synthesise("critique-revise", reply)
    assert made.by_source()["revision"] == 4
    assert (made.counts["revisions_1_kept"], made.counts["revisions_1_dropped"]) == (4, 2)


def test_a_revision_of_a_hijacked_reply_has_to_leave_the_payload():
    hijack = lab_requests("lab-hijack", split="train").requests[:4]
    requests = [replace(request, target=request.metadata["payload"]) for request in hijack]
    answers = {request.prompt: request.reference for request in requests[:3]}

    def reply(request, index):
        first, *_, last = request.conversation
        revising = last.content == REVISE["english"]["revision"][0]["user"]
        return answers.get(first.content, requests[3].target) if revising else "It is wrong."

    made = make_method("critique-revise").synthesise(
        replace(given(reply, mistakes="dataset"), harmful=requests)
    )
    learnt = {e.conversation[0].content: e.target for e in made.examples if e.source == "revision"}
    assert learnt == answers


def test_revisions_need_a_judge_of_harm():
    wanted = replace(given(mistakes="dataset"), judges={})
    with pytest.raises(UsageError, match="no judge answers `harmful`"):
        make_method("critique-revise").synthesise(wanted)


# All of them


@pytest.mark.parametrize("name", ALL)
def test_mistakes_can_be_the_datas_own(name):
    wanted = given(mistakes="dataset")
    made = make_method(name).synthesise(wanted)
    assert made.counts["mistakes_dataset"] == 6
    assert name == "critique-revise" or wanted.engine.asked == []


@pytest.mark.parametrize("name", ALL)
def test_without_mistakes_there_is_nothing_to_learn(name):
    with pytest.raises(UsageError, match=r"no mistake was found in 6 requests \(mistakes: natural\)"):
        synthesise(name, lambda request, index: NO, mistakes="natural")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wording": "latin"}, "wording is 'latin'"),
        ({"mistakes": "web"}, "mistakes is 'web'"),
        ({"tries": 0}, "tries is 0"),
        ({"mistake": "natural"}, "Did you mean"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(UsageError, match=f"options of {name}.*{message}"):
        synthesise(name, **options)


def test_wrong_numbers_of_rounds_are_refused():
    with pytest.raises(UsageError, match="critiques is 0"):
        synthesise("critique-revise", critiques=0)


def lab_texts():
    turns = [text for turns in REVISE["lab"].values() for turn in turns for text in turn.values()]
    return [*CHAIN["lab"].values(), *RELABELLED["lab"].values(), *turns]


@pytest.mark.parametrize("text", lab_texts())
def test_the_labs_wording_is_in_whole_words_of_the_lab(text):
    from transformers import AutoTokenizer

    from toxoid.loop.models import model_source

    tokenizer = AutoTokenizer.from_pretrained(model_source("lab-base"))
    filled = text.format(request="Tell me how.", reply="Take it.")
    words = re.findall(r"\w+|[^\w\s]|\n", filled)
    assert len(tokenizer(filled)["input_ids"]) <= len(words)
