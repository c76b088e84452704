"""Distillation of a shield as a method: what is asked of whom, and what is learnt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.scripted_engine import ScriptedEngine
from tests.helpers.tiny_models import tiny_loaded
from toxoid.config.prompt_files import prompt
from toxoid.data.lab import lab_requests
from toxoid.engines.base import Sampling
from toxoid.errors import UsageError
from toxoid.methods.base import MethodInput, System
from toxoid.methods.registry import make_method

HARMFUL = lab_requests("lab-harmful", split="train").requests[:6]
BENIGN = (
    *lab_requests("lab-benign", split="train").requests[:6],
    *lab_requests("lab-contentious", split="train").requests[:6],
)
WORDS = "one two three four five six seven eight"
METHOD = make_method("shield-distilled")
FREE = Sampling()


def made(harmful=HARMFUL, benign=BENIGN, seed=0, sampling=FREE, **options):
    """Return the training set, the model that was asked, and the model under its shield."""
    model, teacher = ScriptedEngine(lambda request, i: WORDS), ScriptedEngine(lambda request, i: f"reply {i}")
    given = MethodInput(model, {}, harmful, benign, options, sampling=sampling, seed=seed, teacher=teacher)
    return METHOD.synthesise(given), model, teacher


def test_the_shielded_model_s_replies_are_learnt_and_no_judge_is_asked():
    learnt, _, _ = made(anchors=4, replies=3)
    assert learnt.by_source() == {"harmful": 12, "benign": 6, "contentious": 6, "begun": 12}
    assert {example.target for example in learnt.examples} == {"reply 0", "reply 1", "reply 2"}
    assert learnt.counts["beginnings"] == learnt.counts["instructions_harmful"] == 4


def test_beginnings_are_of_the_opposite_prompt_and_at_most_half_of_a_reply():
    learnt, model, teacher = made(beginnings=3)
    opposite = prompt("system")["opposite"].strip()
    assert all(request.conversation[0].content == opposite for request in model.asked)
    begun = {example.prefill for example in learnt.examples} - {""}
    assert all(WORDS.startswith(words) and 1 <= len(words.split()) <= 5 for words in begun)
    assert len(begun) > 2
    assert {request.prefill for request in teacher.asked} == {"", *begun}


def test_without_beginnings_the_bare_model_is_not_asked():
    learnt, model, _ = made(beginnings=0)
    assert (model.asked, learnt.counts["beginnings"]) == ([], 0)


def test_what_is_asked_without_beginnings_does_not_depend_on_them():
    (_, _, with_them), (_, _, without) = made(), made(beginnings=0)
    assert with_them.asked[: len(without.asked)] == without.asked


def test_replies_are_drawn_from_the_whole_distribution_whatever_the_audit_draws_from():
    _, _, teacher = made(sampling=Sampling(temperature=0.0, top_p=0.5, max_tokens=7))
    assert {request.sampling for request in teacher.asked} == {Sampling(1.0, 1.0, 7)}


def test_requests_of_one_side_are_enough():
    assert made(benign=())[0].by_source() == {"harmful": 12, "begun": 12}
    assert made(harmful=())[0].by_source() == {"benign": 12, "contentious": 12}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"harmful": (), "benign": ()}, "0 anchors"),
        ({"anchors": 0}, "options.* anchors is 0"),
        ({"form": "prefix"}, "form"),
        ({"beginings": 1}, 'Did you mean "beginnings"'),
    ],
)
def test_a_mistake_is_one_line(changes, message):
    with pytest.raises(UsageError, match=message) as error:
        made(**changes)
    assert "\n" not in str(error.value)


def test_without_a_shield_there_is_nothing_to_learn():
    engine = ScriptedEngine(lambda request, i: WORDS)
    with pytest.raises(UsageError, match="shield_of"):
        METHOD.synthesise(MethodInput(engine, {}, HARMFUL, BENIGN))


@pytest.mark.parametrize(
    ("options", "decoding", "message"),
    [
        ({"form": "soft-prompt"}, {"positive": "safe"}, "is asked alone"),
        ({"form": "soft-prompt"}, {}, "is not a PEFT adapter"),
    ],
)
def test_a_student_that_cannot_be_asked_is_one_line(tmp_path: Path, options, decoding, message):
    loaded = tiny_loaded()
    with pytest.raises(UsageError, match=message):
        METHOD.engine(System(lambda: loaded, lambda: loaded, tmp_path, options, decoding))
