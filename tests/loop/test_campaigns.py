"""Interactive attacks as a task of an audit."""

from __future__ import annotations

import json
import sys

import pytest

from toxoid.audit.campaigns import transferred
from toxoid.audit.scored_files import read_scored
from toxoid.config.recipe import load_recipe, with_overrides, without_arms
from toxoid.errors import UsageError
from toxoid.loop.compare import compare_runs
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


@pytest.fixture(scope="module")
def transfer(recipe):
    small = {
        "audit.tasks": ["campaigns", "transfer"],
        "audit.attacks": {"campaigns": ["direct", "best_of_n"]},
        "audit.campaigns.queries": 2,
        "audit.samples": 2,
        "audit.sampling.max_tokens": 48,
        "data.limit": 4,
    }
    return with_overrides(recipe, small)


@pytest.fixture(scope="module")
def transfers(transfer, tmp_path_factory):
    """A run of the base, and one of another model that is asked what was found on the base."""
    folder = tmp_path_factory.mktemp("transfer")
    run_loop(transfer, folder / "base")
    other = {"model.source": "lab-uncensored", "audit.campaigns.found_in": str(folder / "base")}
    run_loop(with_overrides(transfer, other), folder / "other")
    return folder


def test_what_attacks_ended_with_on_the_base_is_asked_again_of_every_system(transfers):
    for name in ("base", "other"):
        played = read_scored(transfers / name / "artifacts/scored/base.jsonl")
        again = [entry for entry in played if entry.item.task == "transfer"]
        found = read_scored(transfers / "base/artifacts/scored/base.jsonl")
        assert [entry.item for entry in again] == [
            transferred(entry.item) for entry in found if entry.item.task == "campaigns"
        ]
        assert all(len(entry.completions) == 2 for entry in again)


def test_attacks_on_each_system_and_transferred_ones_stand_side_by_side_in_a_comparison(transfers):
    results = compare_runs(transfers / "base", transfers / "other")
    rows = {(row["task"], row["category"]) for row in results["rows"] if row["metric"] == "harmless_rate"}
    attacks = {"attack: direct", "attack: best_of_n"}
    assert rows >= {(task, name) for task in ("campaigns", "transfer") for name in {"all", *attacks}}
    shown = {flip["task"] for flip in results["comparisons"][0]["flips"]}
    assert "transfer" in shown


def test_what_was_found_on_each_system_by_itself_is_no_transfer(transfer, transfers, tmp_path):
    run_loop(with_overrides(transfer, {"model.source": "lab-uncensored"}), tmp_path / "own")
    with pytest.raises(UsageError, match="transferred"):
        compare_runs(transfers / "base", tmp_path / "own")


def test_campaigns_alone_are_compared_whatever_each_of_them_asked(transfer, tmp_path):
    for source in ("lab-base", "lab-uncensored"):
        alone = {"model.source": source, "audit.tasks": ["campaigns"]}
        run_loop(with_overrides(transfer, alone), tmp_path / source)
    results = compare_runs(tmp_path / "lab-base", tmp_path / "lab-uncensored")
    assert {row["task"] for row in results["rows"]} == {"campaigns"}
    for name, system in zip(("lab-base", "lab-uncensored"), results["systems"], strict=True):
        own = json.loads((tmp_path / name / "results.json").read_text())
        assert system["success"] == own["systems"][0]["success"]
        assert "transferred" not in own["meta"]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"audit.tasks": ["transfer"]}, "add that task"),
        ({"audit.tasks": ["campaigns"], "audit.campaigns.found_in": "x"}, "nothing asks for it"),
        ({"audit.attacks": {"transfer": ["pair"]}}, "those of campaigns"),
        ({"audit.campaigns.found_in": "no-run"}, "no-run"),
    ],
)
def test_a_transfer_of_nothing_is_refused(transfer, tmp_path, settings, complaint):
    with pytest.raises(UsageError, match=complaint):
        run_loop(with_overrides(transfer, settings), tmp_path / "run")


def test_a_run_that_asked_other_requests_has_nothing_to_transfer(transfer, transfers, tmp_path):
    more = {"data.limit": 5, "audit.campaigns.found_in": str(transfers / "base")}
    with pytest.raises(UsageError, match="1 of the 5 requests"):
        run_loop(with_overrides(transfer, more), tmp_path / "run")


def test_the_plan_knows_campaigns_and_transfers(transfer):
    lines = preview(transfer)
    (line,) = [line for line in lines if line.strip().startswith("transfer:")]
    assert "16 replies" in line  # 4 requests, 2 attacks, 2 samples
    (power,) = [line for line in lines if line.startswith("smallest change")]
    assert "campaigns" in power
    assert "transfer" in power


def test_a_missing_package_is_told_before_the_run(recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nanogcg", None)
    with pytest.raises(UsageError, match="pip install --no-deps nanogcg"):
        run_loop(with_overrides(recipe, {"audit.attacks": {"campaigns": ["gcg"]}}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


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
