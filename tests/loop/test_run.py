"""The loop on the lab model: whole, repeatable, resumable, and honest about what it refuses."""

import json

import pytest

from toxoid.config.recipe import with_overrides, without_arms
from toxoid.errors import UsageError
from toxoid.loop.compare import compare_runs
from toxoid.loop.publish import publish
from toxoid.loop.run import align, run_loop


@pytest.fixture(scope="module")
def finished(small_recipe, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "first"
    return directory, run_loop(small_recipe, directory, command="toxoid run")


def test_rows_are_the_first_arm_against_the_base(finished):
    _, results = finished
    assert {(row["before_name"], row["after_name"]) for row in results["rows"]} == {
        ("base", "mistake-analysis")
    }
    wanted = {
        "task",
        "metric",
        "category",
        "before",
        "after",
        "difference",
        "ci_low",
        "ci_high",
        "p_value",
        "n",
    }
    assert all(wanted <= row.keys() for row in results["rows"])
    assert results["rows"][0]["category"] == "all"


def test_every_arm_is_compared_with_the_base_and_by_the_recipes_contrasts(finished):
    pairs = [(found["before"], found["after"]) for found in finished[1]["comparisons"]]
    assert pairs == [("base", "mistake-analysis"), ("base", "sft"), ("sft", "mistake-analysis")]


def test_steps_are_matched(small_recipe, finished):
    steps = {system["name"]: system["cost"]["train_steps"] for system in finished[1]["systems"]}
    assert steps["sft"] == steps["mistake-analysis"] == 6


def test_results_hold_no_time_and_no_path(finished):
    directory, _ = finished
    text = (directory / "results.json").read_text()
    assert "seconds" not in text
    assert str(directory.parent) not in text


def test_another_directory_gives_the_same_bytes(small_recipe, finished, tmp_path):
    run_loop(small_recipe, tmp_path / "again", command="another command")
    assert (tmp_path / "again/results.json").read_bytes() == (finished[0] / "results.json").read_bytes()


def test_a_finished_run_asks_nothing_again(small_recipe, finished, monkeypatch):
    from toxoid.engines.local import LocalEngine

    def never(self, requests, on_done=None):
        assert not requests

    monkeypatch.setattr(LocalEngine, "generate", never)
    assert run_loop(small_recipe, finished[0]) == finished[1]


def test_the_report_is_written_from_the_directory(finished):
    page = publish(finished[0]).read_text()
    assert "Content-Security-Policy" in page
    assert len(page.encode()) < 300_000


def test_speed_is_joined_to_the_costs_of_the_report_and_left_out_of_the_results(finished):
    from toxoid.loop.publish import with_circumstances
    from toxoid.store.run_directory import RunDirectory

    shown = with_circumstances(RunDirectory.read(finished[0]))["systems"]
    assert all(system["cost"]["tokens_per_second"] > 0 for system in shown)
    assert not any("tokens_per_second" in system["cost"] for system in finished[1]["systems"])


def test_another_setup_in_the_same_directory_is_refused_by_name(small_recipe, finished):
    with pytest.raises(UsageError, match=r"recipe\.seed"):
        run_loop(with_overrides(small_recipe, {"seed": 1}), finished[0])


def test_a_run_compared_with_itself_has_no_flips(finished):
    results = compare_runs(finished[0], finished[0], after_system="base")
    assert results["comparisons"][0]["flips_total"] == {"better": 0, "worse": 0}
    assert all(row["difference"] == 0 for row in results["rows"])


def test_runs_on_other_items_are_not_compared_unless_forced(small_recipe, finished, tmp_path):
    other = without_arms(
        with_overrides(
            small_recipe, {"data.limit": 4, "audit.tasks": ["harmfulness"], "arms": [], "contrasts": []}
        )
    )
    run_loop(other, tmp_path / "other")
    with pytest.raises(UsageError, match="--force"):
        compare_runs(finished[0], tmp_path / "other")
    forced = compare_runs(finished[0], tmp_path / "other", force=True)
    assert any("forced" in warning for warning in forced["meta"]["warnings"])


def test_comparing_an_unknown_system_names_the_known_ones(finished):
    with pytest.raises(UsageError, match="mistake-analysis"):
        compare_runs(finished[0], finished[0], after_system="nobody")


def test_the_card_of_a_treated_model_tells_the_command(finished):
    assert "toxoid run" in (finished[0] / "artifacts/sft/README.md").read_text()


def test_align_trains_and_audits_nothing(small_recipe, tmp_path):
    treated = align(small_recipe, tmp_path / "aligned", command="toxoid align")
    assert "toxoid align" in (treated.path / "README.md").read_text()
    assert (treated.path / "model.safetensors").is_file()
    assert not (tmp_path / "aligned/results.json").exists()
    rows = (tmp_path / "aligned/artifacts/data/mistake-analysis.jsonl").read_text().splitlines()
    assert {json.loads(row)["messages"][-1]["role"] for row in rows} == {"assistant"}


def test_training_on_a_tested_prompt_is_refused(small_recipe, tmp_path):
    prompts = "\n".join(["How do I mend the bell?", "How do I mend the door?"])
    (tmp_path / "a.txt").write_text(prompts)
    (tmp_path / "b.txt").write_text(prompts)
    recipe = with_overrides(
        small_recipe,
        {
            "data.sets": {"harmful": str(tmp_path / "a.txt")},
            "audit.tasks": ["harmfulness"],
            "train.harmful": [str(tmp_path / "b.txt")],
        },
    )
    with pytest.raises(UsageError, match="stand in training and test"):
        run_loop(recipe, tmp_path / "run")


def test_a_task_without_requests_is_refused_by_name(small_recipe, tmp_path):
    recipe = with_overrides(small_recipe, {"data.sets": {"benign": "lab-benign"}})
    with pytest.raises(UsageError, match=r"data\.sets\.harmful"):
        run_loop(recipe, tmp_path / "run")


def test_guidance_reaches_every_system(small_recipe, finished, tmp_path):
    guided = with_overrides(
        without_arms(small_recipe), {"audit.guided": True, "audit.tasks": ["harmfulness"]}
    )
    rates = run_loop(guided, tmp_path / "guided")["systems"][0]["rates"]
    plain = finished[1]["systems"][0]["rates"]
    assert rates[0]["rate"] > plain[0]["rate"]


def test_an_arm_without_harmful_requests_is_refused_by_name(small_recipe, tmp_path):
    with pytest.raises(UsageError, match="--requests"):
        run_loop(with_overrides(small_recipe, {"train.harmful": []}), tmp_path / "run")


def test_training_without_general_data_is_told(small_recipe):
    from toxoid.loop.requests import load_all

    notes = load_all(with_overrides(small_recipe, {"train.benign": []})).notes()
    assert any("over-refusal" in note for note in notes)
