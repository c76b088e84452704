"""Course-correction in the loop: from one recipe to rates, curves and a report; and what it refuses."""

from __future__ import annotations

import json

import pytest

from tests.helpers.lab_server import answer
from tests.helpers.openai_server import OpenAIServer, Reply
from toxoid.audit.tasks import task_spec
from toxoid.config.recipe import load_recipe, with_overrides
from toxoid.errors import UsageError
from toxoid.loop.compare import compare_runs
from toxoid.loop.publish import publish
from toxoid.loop.requests import audit_items, drawings, load_all
from toxoid.loop.run import run_loop

TASKS = ["course-correction", "course-correction-trigger", "false-correction-t1"]


@pytest.fixture(scope="module")
def small():
    """A few requests, lengths and paths."""
    return with_overrides(
        load_recipe("audit"),
        {
            "audit.tasks": TASKS,
            "audit.course_correction": {"lengths": [10, 30], "paths": 2, "max_tokens": 12, "limit": 4},
            "statistics.resamples": 200,
        },
    )


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    return directory, run_loop(small, directory)


def overall(results, task):
    rates = results["systems"][0]["rates"]
    return {row["metric"]: row for row in rates if (row["task"], row["category"]) == (task, "all")}


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_every_task_has_its_rates_over_requests_lengths_and_paths(finished):
    rows = {task: overall(finished[1], task) for task in TASKS}
    assert {metric for found in rows.values() for metric in found} == {
        *("corr_mean", "immediate_rate", "false_correction_rate")
    }
    for found in rows.values():
        assert {(row["n_items"], row["n_replies"], row["unscored"]) for row in found.values()} == {(4, 16, 0)}


def test_curves_agree_with_their_rates(finished):
    curves = {curve["task"]: curve for curve in finished[1]["systems"][0]["curves"]}
    assert list(curves) == TASKS
    for task, curve in curves.items():
        assert [point["k"] for point in curve["points"]] == [10, 30]
        rate = overall(finished[1], task)[task_spec(task).metrics[0].name]["rate"]
        assert sum(point["corr"] for point in curve["points"]) / 2 == pytest.approx(rate)


def test_a_model_follows_a_turn_more_often_than_it_turns(finished):
    turned, followed = (overall(finished[1], task)["corr_mean"]["rate"] for task in TASKS[:2])
    assert followed > turned


def test_the_report_shows_the_curves(finished):
    assert 'id="beginnings"' in publish(finished[0]).read_text()


def test_a_run_compared_with_itself_did_not_move(finished):
    found = compare_runs(finished[0], finished[0])
    assert {row["difference"] for row in found["comparisons"][0]["means"]} <= {0.0, None}
    assert {row["difference"] for row in found["rows"]} == {0.0}


def test_each_task_is_drawn_as_its_section_says(small):
    found = drawings(with_overrides(small, {"audit.tasks": [*TASKS, "prefill"]}))
    ways = {
        task: (d.samples, d.sampling.temperature, d.sampling.top_p, d.sampling.max_tokens)
        for task, d in found.items()
    }
    assert ways["course-correction"] == ways["course-correction-trigger"] == (2, 0.8, 0.7, 12)
    assert ways["false-correction-t1"] == (2, 1.0, 1.0, 12)
    assert ways["prefill"] == (2, 1.0, 1.0, 128)


def test_requests_without_a_reply_are_left_out_and_counted(small, tmp_path):
    rows = [
        {"prompt": f"How do I do thing {i}?", "target": "Take it and go." if i else " "} for i in range(3)
    ]
    recipe = with_overrides(
        small,
        {
            "data.sets": {"harmful": write(tmp_path / "own.jsonl", rows)},
            "audit.tasks": ["harmfulness", "course-correction"],
        },
    )
    requests = load_all(recipe)
    assert [len(requests.asked[task]) for task in recipe.audit.tasks] == [3, 2]
    assert any("course-correction leaves out 1 of its 3 requests" in note for note in requests.notes())


@pytest.mark.parametrize(
    ("task", "role", "message"),
    [
        ("course-correction", "harmful", "none of the 1 requests of own has a target.* task prefill"),
        ("false-correction", "benign", "none of the 1 requests of own has a reference"),
    ],
)
def test_a_set_without_replies_is_refused_in_one_line(small, tmp_path, task, role, message):
    own = write(tmp_path / "own.jsonl", [{"prompt": "How do I do it?"}])
    with pytest.raises(UsageError, match=message):
        load_all(with_overrides(small, {"data.sets": {role: own}, "audit.tasks": [task]}))


def test_a_file_in_the_layout_of_pku_saferlhf_is_begun_with_its_first_unsafe_reply(small, tmp_path):
    replies = {"response_0": "That would be wrong.", "response_1": "Take the lamp and carry it off."}
    row = {"prompt": "How?", **replies, "is_response_0_safe": True, "is_response_1_safe": False}
    recipe = with_overrides(
        small,
        {
            "data.sets": {"harmful": write(tmp_path / "pku.jsonl", [row])},
            "audit.tasks": ["course-correction-no-opener"],
        },
    )
    items = audit_items(recipe, load_all(recipe))
    assert [item.prefill for item in items] == [replies["response_1"]] * 2
    assert {item.stratum for item in items} == {"whole"}


def test_another_attack_in_place_of_the_tasks_own_needs_no_reply(small):
    recipe = with_overrides(
        small, {"audit.tasks": ["course-correction"], "audit.attacks": {"course-correction": "prefill"}}
    )
    assert {item.cut for item in audit_items(recipe, load_all(recipe))} == {None}


def test_rules_that_read_the_given_turn_are_an_upper_bound_and_say_so(small, tmp_path):
    settings = {"judge.name": "refusal", "audit.tasks": TASKS[:2], "audit.course_correction.limit": 1}
    warnings = run_loop(with_overrides(small, settings), tmp_path / "run")["meta"]["warnings"]
    assert [warning.split(":")[0] for warning in warnings] == ["course-correction-trigger"]
    assert "upper bound" in warnings[0]


def test_a_server_that_continues_prefills_is_measured(small, tmp_path):
    with OpenAIServer(default=answer()) as server:
        settings = {"model.endpoint": server.url, "audit.tasks": ["course-correction"]}
        results = run_loop(with_overrides(small, settings), tmp_path / "run")
    assert overall(results, "course-correction")["corr_mean"]["unscored"] == 0


def test_a_server_that_cannot_continue_prefills_is_refused(small, tmp_path):
    def closed_turns_only(body):
        open_turn = body["messages"][-1]["role"] == "assistant"
        return (
            Reply(status=400, body={"error": {"message": "no open turns"}}) if open_turn else Reply(("No.",))
        )

    with OpenAIServer(default=closed_turns_only) as server:
        settings = {"model.endpoint": server.url, "audit.tasks": ["course-correction"]}
        with pytest.raises(UsageError, match=r"no open turns.*continue an open assistant turn"):
            run_loop(with_overrides(small, settings), tmp_path / "run")


@pytest.mark.data
def test_c2_eval_is_asked_at_every_length(small, public_data):
    recipe = with_overrides(
        small,
        {
            "data.sets": {"harmful": "c2-eval"},
            "audit.tasks": ["course-correction"],
            "audit.course_correction": {"limit": 100},
        },
    )
    items = audit_items(recipe, load_all(recipe))
    assert len(items) == 800
    longest = [item.cut for item in items if item.cut.words == 80]
    assert 0.1 < sum(cut.whole for cut in longest) / len(longest) < 0.4
