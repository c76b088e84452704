"""People's labels in place of verdicts."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from toxoid.cli.review import review
from toxoid.config.recipe import load_recipe, with_overrides, without_arms
from toxoid.errors import UsageError
from toxoid.judges.base import Outcome
from toxoid.loop.review import Labels, apply_labels, cases, fair_sample, in_hash_order
from toxoid.loop.run import run_loop
from toxoid.store.run_directory import RunDirectory


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    recipe = with_overrides(
        without_arms(load_recipe("demo")),
        {
            "audit.tasks": ["harmfulness", "helpfulness"],
            "data.limit": 8,
            "audit.samples": 1,
            "statistics.resamples": 100,
        },
    )
    folder = tmp_path_factory.mktemp("review") / "run"
    run_loop(recipe, folder)
    return folder


@pytest.fixture
def run(audited, tmp_path):
    import shutil

    shutil.copytree(audited, tmp_path / "run")
    return RunDirectory.read(tmp_path / "run")


def rate(results, task="harmfulness"):
    (base,) = (system for system in results["systems"] if system["name"] == "base")
    return next(row["rate"] for row in base["rates"] if row["task"] == task and row["category"] == "all")


def test_the_sample_is_the_same_every_time_and_a_smaller_one_is_part_of_it(run):
    first, second = cases(run, sample=6), cases(run, sample=6)
    assert [case.key for case in first] == [case.key for case in second]
    assert {case.key for case in cases(run, sample=3)} <= {case.key for case in first}


def test_the_fair_sample_ends_at_the_first_case_without_a_label_whatever_the_verdicts(run):
    ordered = in_hash_order(cases(run, aspect="harmful", sample=99))
    labels = {case.key: {"answer": "miss"} for case in [*ordered[:4], *ordered[5:]]}
    assert fair_sample(ordered, labels) == ordered[:4]
    assert fair_sample(reversed(ordered), {**labels, ordered[4].key: {"answer": "hit"}}) == ordered
    assert fair_sample(ordered, {}) == []


def test_labels_of_chosen_cases_do_not_enter_the_judges_card(run):
    ordered = in_hash_order(cases(run, aspect="harmful", sample=99))
    for case in ordered[1:]:
        Labels(run).record(case, "hit", by="")
    apply_labels(run)
    card = json.loads((run.path / "review/results.json").read_text())["judge_card"]
    assert card["review"]["harmful"]["n"] == 0


def test_labels_replace_verdicts_in_the_rates(run):
    found = [case for case in cases(run, aspect="harmful", sample=99) if case.verdict.outcome is Outcome.HIT]
    assert found
    before = rate(run.results())
    for case in found:
        Labels(run).record(case, "miss", by="ann")
    page = apply_labels(run)
    changed = json.loads((page.parent / "results.json").read_text())
    assert before < 1
    assert rate(changed) == 1
    assert rate(changed, "helpfulness") == rate(run.results(), "helpfulness")
    assert "labels" in page.read_text("utf-8")


def test_the_card_counts_the_judges_errors_on_the_sample(run):
    for case in cases(run, aspect="harmful", sample=99):
        Labels(run).record(case, "hit", by="ann")
    apply_labels(run)
    card = json.loads((run.path / "review/results.json").read_text())["judge_card"]
    assert card["review"]["harmful"]["sensitivity"]["value"] < 1


def test_an_unclear_label_makes_a_verdict_unscored(run):
    (case, *_) = cases(run, aspect="harmful", sample=1)
    Labels(run).record(case, "unclear", by="")
    apply_labels(run)
    systems = json.loads((run.path / "review/results.json").read_text())["systems"]
    row = next(r for r in systems[0]["rates"] if r["task"] == "harmfulness" and r["category"] == "all")
    assert row["unscored"] > 0


def test_a_cut_line_is_passed_over_and_the_last_label_counts(run):
    (case, *_) = cases(run, sample=1)
    labels = Labels(run)
    labels.record(case, "hit", by="")
    labels.record(case, "miss", by="")
    with labels.path.open("a") as stream:
        stream.write('{"key": "half')
    assert labels.read()[case.key]["answer"] == "miss"


def test_the_command_asks_keeps_and_goes_on(run):
    first = CliRunner().invoke(review, [str(run.path), "--sample", "3"], input="y\nq\n")
    assert first.exit_code == 0, first.output
    assert "1 labelled, 2 left" in first.output
    second = CliRunner().invoke(review, [str(run.path), "--sample", "3"], input="n\nu\n")
    assert "2 labelled, 0 left, 1 from before" in second.output
    assert "report:" in second.output


def test_nothing_to_apply_is_an_error(run):
    with pytest.raises(UsageError, match="toxoid review"):
        apply_labels(run)


def test_an_unknown_system_names_the_known_ones(run):
    with pytest.raises(UsageError, match="base"):
        cases(run, system="nobody")
