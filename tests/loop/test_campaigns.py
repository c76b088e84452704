"""Interactive attacks as a task of an audit."""

from __future__ import annotations

import pytest

from toxoid.config.recipe import load_recipe, with_overrides, without_arms
from toxoid.errors import UsageError
from toxoid.loop.run import preview, run_loop

SMALL = {
    "audit.tasks": ["harmfulness", "campaigns"],
    "audit.attacks": {"campaigns": ["direct", "adaptive"]},
    "audit.campaigns.queries": 3,
    "audit.samples": 1,
    "data.limit": 6,
    "statistics.resamples": 100,
}


@pytest.fixture(scope="module")
def recipe():
    return with_overrides(without_arms(load_recipe("demo")), SMALL)


@pytest.fixture(scope="module")
def results(recipe, tmp_path_factory):
    return run_loop(recipe, tmp_path_factory.mktemp("campaigns") / "run")


def test_every_attack_has_rates_and_success_by_questions(results):
    (base,) = results["systems"]
    attacks = {row["category"] for row in base["rates"] if row["task"] == "campaigns"}
    assert {"all", "attack: direct", "attack: adaptive"} <= attacks
    steps = [
        row for row in base["success"] if row["category"] == "attack: direct" and row["task"] == "campaigns"
    ]
    assert [row["k"] for row in steps] == [1, 2, 3]
    assert [row["rate"] for row in steps] == sorted(row["rate"] for row in steps)


def test_the_same_run_again_plays_the_same_campaigns(recipe, results, tmp_path):
    again = run_loop(recipe, tmp_path / "again")
    assert again["systems"][0]["success"] == results["systems"][0]["success"]


def test_the_plan_counts_every_question_of_the_budget(recipe):
    (line,) = [line for line in preview(recipe) if line.strip().startswith("campaigns:")]
    assert "36 replies" in line  # 6 requests, 2 attacks, 3 questions


def test_a_budget_of_the_run_is_refused_beforehand(recipe, tmp_path):
    with pytest.raises(UsageError, match="requests"):
        run_loop(with_overrides(recipe, {"budget.requests": 20}), tmp_path / "run")


def test_an_interactive_attack_elsewhere_is_refused(recipe, tmp_path):
    wrong = with_overrides(recipe, {"audit.tasks": ["jailbreak"], "audit.attacks": {"jailbreak": ["pair"]}})
    with pytest.raises(UsageError, match=r"audit\.attacks\.campaigns"):
        run_loop(wrong, tmp_path / "run")
