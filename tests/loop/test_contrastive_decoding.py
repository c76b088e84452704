"""Contrastive decoding in the loop: a shield is made, used in several ways, and put before the model again."""

from __future__ import annotations

import json

import pytest

from tests.loop.conftest import SMALL
from toxoid.config.recipe import load_recipe, only_arms, shielded, with_overrides, without_arms
from toxoid.engines.shield import load_shield
from toxoid.errors import UsageError
from toxoid.loop.publish import publish
from toxoid.loop.run import align, run_loop

ARMS = ["contrast", "sp", "safe-prompt", "first-two"]
CUT = SMALL | {
    "audit.tasks": ["harmfulness", "over-refusal"],
    "training.max_steps": 2,
    "arms.contrast.options": {"anchors": 8},
}


@pytest.fixture(scope="module")
def small():
    recipe = load_recipe("contrastive-decoding")
    return with_overrides(only_arms(recipe, ARMS), CUT | {"train.limit": 60})


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    return directory, run_loop(small, directory)


@pytest.fixture(scope="module")
def shield(finished):
    return finished[0] / "artifacts" / "contrast"


def decodings(results):
    return {system["name"]: system.get("decoding") for system in results["systems"]}


def test_every_system_says_how_it_is_decoded(finished, shield):
    found = decodings(finished[1])
    assert found["base"] is None
    assert (found["contrast"]["positive"], found["contrast"]["negative"]) == ("sp", "ap")
    assert found["contrast"]["shield"] == found["sp"]["shield"] == load_shield(shield).identity()
    assert (found["sp"]["negative"], found["sp"]["plausibility"]) == (None, 0)
    assert found["safe-prompt"]["positive"] == "safe"
    assert "shield" not in found["safe-prompt"]
    assert found["first-two"]["first"] == 2


def test_an_arm_that_uses_anothers_shield_trains_nothing(finished):
    cost = {system["name"]: system["cost"]["train_steps"] for system in finished[1]["systems"]}
    assert cost == {"base": 0, "contrast": 2, "sp": 0, "safe-prompt": 0, "first-two": 0}


def test_the_report_is_written(finished):
    assert "SP alone" in publish(finished[0]).read_text("utf-8")


def test_a_run_that_continues_gives_the_same_bytes(finished, small):
    before = (finished[0] / "results.json").read_bytes()
    run_loop(small, finished[0])
    assert (finished[0] / "results.json").read_bytes() == before


def test_a_shield_that_exists_is_a_treatment(finished, shield, small, tmp_path):
    results = run_loop(shielded(small, str(shield)), tmp_path / "run")
    rates = {system["name"]: system["rates"] for system in results["systems"]}
    expected = {system["name"]: system["rates"] for system in finished[1]["systems"]}
    assert rates == {"base": expected["base"], "shield": expected["contrast"]}


def test_the_adversarial_prompt_alone_is_an_attack_that_can_be_measured(shield, small, tmp_path):
    recipe = shielded(small, str(shield))
    attack = with_overrides(recipe, {"arms.shield.decoding": {"positive": "ap", "negative": None}})
    found = decodings(run_loop(attack, tmp_path / "run"))["shield"]
    assert (found["positive"], found["negative"]) == ("ap", None)


def test_demonstrations_are_kept_for_the_audit(small, tmp_path):
    recipe = only_arms(load_recipe("contrastive-baselines"), ["in-context-defence"])
    run_loop(with_overrides(recipe, SMALL | {"audit.tasks": ["harmfulness"]}), tmp_path / "run")
    assert (tmp_path / "run" / "artifacts" / "in-context-defence" / "demonstrations.json").is_file()


def test_an_audit_behind_a_shield_gives_what_the_arm_did(finished, shield, small, tmp_path):
    recipe = with_overrides(
        without_arms(small), {"model.shield": str(shield), "model.decoding": {"first": 2}}
    )
    (system,) = run_loop(recipe, tmp_path / "run")["systems"]
    expected = {system["name"]: system["rates"] for system in finished[1]["systems"]}
    assert system["rates"] == expected["first-two"]


def test_a_shield_is_made_without_audits(tmp_path):
    recipe = with_overrides(load_recipe("shield"), {"train.limit": 60, "training.max_steps": 1})
    made = align(with_overrides(recipe, {"arms.shield.options": {"anchors": 8}}), tmp_path / "run")
    facts = json.loads((made.path / "shield.json").read_text("utf-8"))
    assert facts["contrast"]["alpha"] == 0.4
    assert made.counts["instructions_harmful"] == 8


def test_a_shield_of_another_model_is_refused(shield, small, tmp_path):
    recipe = with_overrides(shielded(small, str(shield)), {"model.source": "lab-uncensored"})
    with pytest.raises(UsageError, match="weights"):
        run_loop(recipe, tmp_path / "run")


def test_arms_over_a_shielded_model_are_refused(shield, small):
    with pytest.raises(UsageError, match=r"model\.shield"):
        with_overrides(small, {"model.shield": str(shield)})


def test_an_arm_cannot_use_what_a_later_one_leaves(small):
    with pytest.raises(UsageError, match="comes later"):
        with_overrides(small, {"arms.contrast.artifact_of": "sp"})


def test_a_file_of_anchors_that_is_not_there_is_named(small, tmp_path):
    options = {"arms.contrast.options": {"anchors_file": str(tmp_path / "none.jsonl")}}
    with pytest.raises(UsageError, match="no file of anchors"):
        run_loop(with_overrides(small, options), tmp_path / "run")
