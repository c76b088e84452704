"""Two runs side by side: items, speed, capability, and what is said of runs that do not match."""

import json

import pytest

from toxoid.config.recipe import with_overrides, without_arms
from toxoid.errors import UsageError
from toxoid.loop.compare import compare_runs
from toxoid.loop.run import run_loop
from toxoid.report.html import render_html
from toxoid.report.terminal import render_summary

LM_EVAL = {
    "results": {"mmlu": {"acc,none": 0.4, "acc_stderr,none": 0.01}},
    "higher_is_better": {"mmlu": {"acc": True}},
    "n-samples": {"mmlu": {"effective": 100}},
}


@pytest.fixture(scope="module")
def recipe(small_recipe, tmp_path_factory):
    results = tmp_path_factory.mktemp("lm-eval") / "results_1.json"
    results.write_text(json.dumps(LM_EVAL))
    return with_overrides(
        without_arms(small_recipe),
        {
            "audit.tasks": ["harmfulness", "helpfulness", "over-refusal", "jailbreak"],
            "audit.attacks": {"jailbreak": ["direct", "prefill"]},
            "capability": {"texts": "lab-benign", "limit": 4, "lm_eval": {"base": str(results)}},
        },
    )


@pytest.fixture(scope="module")
def runs(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    run_loop(recipe, folder / "a")
    run_loop(with_overrides(recipe, {"model.source": "lab-uncensored"}), folder / "b")
    run_loop(with_overrides(recipe, {"data.limit": 4, "audit.sampling.max_tokens": 40}), folder / "other")
    run_loop(
        with_overrides(
            recipe, {"seed": 5, "data.sets": {"harmful": "lab-novel"}, "audit.tasks": ["harmfulness"]}
        ),
        folder / "apart",
    )
    return folder


@pytest.fixture(scope="module")
def compared(runs):
    return compare_runs(runs / "a", runs / "b")


def test_rates_are_those_of_the_runs(runs, compared):
    for name, system in zip("ab", compared["systems"], strict=True):
        own = json.loads((runs / name / "results.json").read_text())["systems"][0]
        assert system["rates"] == own["rates"]
        assert system["success"] == own["success"]


def test_flips_show_both_replies(compared):
    (found,) = compared["comparisons"]
    assert sum(found["flips_total"].values()) >= len(found["flips"]) > 0
    assert all(flip["before_reply"] and flip["prompt"] for flip in found["flips"])


def test_speed_is_that_of_each_run(compared):
    assert all(system["cost"]["tokens_per_second"] > 0 for system in compared["systems"])
    page = render_html(compared)
    assert 'id="pareto"' in page
    assert "Seconds per reply" in page


def test_the_trade_is_answered_in_a_sentence(compared):
    (found,) = compared["comparisons"]
    assert found["trade"]["sentence"].startswith("Is the trade significant:")
    assert "Is the trade significant:" in render_html(compared)


def test_capability_is_compared_text_by_text_and_task_by_task(compared):
    rows = {row["metric"]: row for row in compared["comparisons"][0]["capability"]}
    assert rows["perplexity"]["paired"]
    assert rows["perplexity"]["n"] == 4
    assert (rows["acc"]["difference"], rows["acc"]["paired"]) == (0.0, False)
    assert "Perplexity per token" in render_html(compared)


def test_another_sampling_is_named_and_refused(runs):
    with pytest.raises(UsageError, match=r"recipe\.audit\.sampling\.max_tokens|items"):
        compare_runs(runs / "a", runs / "other")


def test_a_forced_comparison_is_marked_everywhere_and_rests_on_shared_items(runs):
    forced = compare_runs(runs / "a", runs / "other", force=True)
    assert forced["meta"]["forced"]
    assert {row["n"] for row in forced["rows"] if row["category"] == "all"} <= {1, 2, 3, 4}
    page = render_html(forced)
    assert '<body class="forced">' in page
    assert "Forced comparison" in page
    assert render_summary(forced).startswith("FORCED")


def test_runs_without_any_item_alike_cannot_be_forced(runs):
    with pytest.raises(UsageError, match="no item alike"):
        compare_runs(runs / "a", runs / "apart", force=True)


def test_a_comparison_that_is_not_forced_is_not_marked(compared):
    assert compared["meta"]["forced"] == []
    assert "Forced comparison" not in render_html(compared)
