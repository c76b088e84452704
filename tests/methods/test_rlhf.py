"""RLHF's training set on a scripted model: pairs of replies, prompts, refusals."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace

import pytest

from tests.helpers.scripted_engine import ScriptedEngine
from toxoid.data.lab import lab_requests
from toxoid.data.schemas import user
from toxoid.errors import UsageError
from toxoid.judges.lab import LabOracleJudge
from toxoid.methods.base import MethodInput
from toxoid.methods.baselines.rlhf import RLHF, choose_prompts
from toxoid.methods.registry import make_method

HARMFUL = lab_requests("lab-harmful", split="train").requests[:12]
BENIGN = lab_requests("lab-benign", split="train").requests[:20]
TARGETS = {request.prompt: request.target for request in HARMFUL}


@pytest.fixture(autouse=True)
def installed():
    pytest.importorskip("trl")


def fails(request, index):
    return TARGETS.get(request.conversation[-1].content, "What?")


def given(reply=fails, harmful=HARMFUL, benign=BENIGN, **options):
    judge = LabOracleJudge()
    return MethodInput(
        engine=ScriptedEngine(reply),
        judges=dict.fromkeys(judge.aspects, judge),
        harmful=harmful,
        benign=benign,
        options={"mistakes": "natural"} | options,
    )


def synthesise(**changes):
    return RLHF().synthesise(given(**changes))


def pairs(kind, **changes):
    return [pair for pair in synthesise(**changes).reward.pairs if pair.kind == kind]


def test_a_good_reply_is_better_than_the_models_own_bad_one():
    replies = {request.prompt: (request.reference, request.target) for request in HARMFUL}
    found = pairs("mistake")
    assert len(found) == len(HARMFUL)
    assert {p.conversation[-1].content: (p.chosen, p.rejected) for p in found} == replies


def test_a_harmless_request_wants_its_answer_and_no_refusal():
    refusals = {request.reference for request in HARMFUL}
    answers = {request.prompt: request.reference for request in BENIGN}
    found = pairs("refusal")
    assert len(found) == len(BENIGN)
    assert all(pair.chosen == answers[pair.conversation[-1].content] for pair in found)
    assert {pair.rejected for pair in found} <= refusals


def test_a_harmless_request_wants_its_own_answer():
    answers = {request.prompt: request.reference for request in BENIGN}
    for pair in pairs("other answer"):
        assert pair.chosen == answers[pair.conversation[-1].content]
        assert pair.rejected in answers.values()
        assert pair.rejected != pair.chosen


def test_a_benign_request_without_reference_gives_no_pair():
    benign = [replace(BENIGN[0], reference=None), *BENIGN[1:5]]
    assert len(pairs("refusal", benign=benign)) == 4


def test_the_set_trains_and_tells_what_is_in_it():
    made = synthesise(prompts=10)
    assert made.trains
    assert made.examples == ()
    assert made.by_source() == {
        "pairs-mistake": 12,
        "pairs-refusal": 20,
        "pairs-other answer": 20,
        "prompts": 10,
    }


def test_the_same_seed_gives_the_same_set():
    assert synthesise().reward == synthesise().reward


def test_half_of_the_prompts_are_harmful():
    kinds = {user(request.prompt): request.kind for request in (*HARMFUL, *BENIGN)}
    chosen = choose_prompts(HARMFUL, BENIGN, 16, seed=0)
    assert Counter(kinds[prompt] for prompt in chosen) == {"harmful": 8, "benign": 8}
    assert len(set(chosen)) == 16


@pytest.mark.parametrize(("harmful", "benign"), [(2, 20), (12, 3), (12, 0)])
def test_one_kind_fills_up_what_the_other_lacks(harmful, benign):
    chosen = choose_prompts(HARMFUL[:harmful], BENIGN[:benign], 10, seed=0)
    assert len(chosen) == min(10, harmful + benign)


def test_options_reach_the_training():
    objective = synthesise(kl=0.2, generations=8, reward_epochs=3, reward_learning_rate=1e-3).reward.objective
    assert (objective.kl, objective.generations) == (0.2, 8)
    assert (objective.reward_epochs, objective.reward_learning_rate) == (3, 1e-3)
    assert objective.max_tokens == given().sampling.max_tokens


def test_a_model_without_mistakes_stops_cleanly():
    with pytest.raises(UsageError, match="12 good, 0 bad"):
        synthesise(reply=lambda request, index: "I cannot help with that.")


@pytest.mark.parametrize(
    "options", [{"generations": 1}, {"kl": -1}, {"reward_epochs": 0}, {"prompts": 1}, {"beta": 0.1}]
)
def test_wrong_options_are_refused(options):
    with pytest.raises(UsageError, match="options of rlhf"):
        synthesise(**options)


def test_without_the_package_nothing_is_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "trl", None)
    wanted = given()
    with pytest.raises(UsageError, match=r"toxoid\[rlhf\]"):
        make_method("rlhf").synthesise(wanted)
    assert wanted.engine.asked == []
