"""What a run would cost: told before, held during, and no part of what it measures."""

import pytest

from tests.helpers.lab_server import answer
from tests.helpers.openai_server import OpenAIServer
from toxoid.config.recipe import with_overrides, without_arms
from toxoid.engines.metered import Usage
from toxoid.errors import UsageError
from toxoid.loop.preview import pace_line
from toxoid.loop.run import preview, run_loop
from toxoid.store.run_directory import RunDirectory


@pytest.fixture(scope="module")
def quick(small_recipe):
    return with_overrides(
        without_arms(small_recipe),
        {
            "audit.tasks": ["harmfulness", "jailbreak"],
            "audit.attacks": {"jailbreak": ["direct", "prefill", "many_shot"]},
            "audit.samples": 2,
            "audit.sampling.max_tokens": 16,
            "capability": {"texts": "auto", "limit": 4},
        },
    )


def test_the_preview_counts_every_reply_and_writes_nothing(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = preview(quick)
    assert lines[0].startswith("requests: 40 replies to 20 questions")
    assert any("640 written" in line for line in lines)
    assert any(line.startswith("time: about") for line in lines)
    assert any("smallest change" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("tasks", "counted"),
    [
        (["campaigns"], "requests: 60 replies in 10 campaigns;"),
        (["harmfulness", "campaigns"], "requests: 70 replies to 5 questions and in 10 campaigns;"),
    ],
)
def test_the_preview_counts_campaigns_by_themselves(quick, tasks, counted):
    played = with_overrides(
        quick,
        {
            "audit.tasks": tasks,
            "audit.attacks": {"campaigns": ["direct", "adaptive"]},
            "audit.campaigns.queries": 6,
        },
    )
    assert preview(played)[0].startswith(counted)


def test_prices_make_money_of_it(quick):
    priced = with_overrides(quick, {"budget.price_in": 0.0, "budget.price_out": 1000.0})
    assert any("price, at most: 0.64" in line for line in preview(priced))


@pytest.mark.parametrize(("cap", "value"), [("requests", 39), ("tokens", 640)])
def test_a_run_that_could_exceed_its_cap_is_refused_before_it_begins(quick, tmp_path, cap, value):
    with pytest.raises(UsageError, match="the cap is"):
        run_loop(with_overrides(quick, {f"budget.{cap}": value}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_caps_are_no_part_of_the_fingerprint(quick, tmp_path):
    first = run_loop(with_overrides(quick, {"budget.requests": 40}), tmp_path / "run")
    assert run_loop(quick, tmp_path / "run") == first


def test_attacks_of_a_task_are_asked_side_by_side_and_many_shot_fits(quick, tmp_path):
    results = run_loop(quick, tmp_path / "run")
    rates = {row["category"] for row in results["systems"][0]["rates"] if row["task"] == "jailbreak"}
    assert {"attack: direct", "attack: prefill", "attack: many_shot"} <= rates
    assert any("many-shot: 5 of 5 conversations hold only" in note for note in results["notes"])
    success = {(row["category"], row["k"]) for row in results["systems"][0]["success"]}
    assert {("all", 5), ("attack: prefill", 2)} <= success
    assert {score["metric"] for score in results["systems"][0]["capability"]} == {
        "bits_per_byte",
        "perplexity",
    }
    with RunDirectory.read(tmp_path / "run") as run:
        assert (run.path / "speed.json").is_file()


def test_an_endpoint_is_asked_nothing_by_a_preview(quick):
    with OpenAIServer(default=answer()) as server:
        lines = preview(with_overrides(quick, {"model.endpoint": server.url}))
        assert server.requests == []
    assert any("not measured" in line for line in lines)
    assert any("each byte counted as one" in line for line in lines)
    assert any("perplexity is not measured" in line for line in lines)


def test_the_pace_is_that_of_the_replies_so_far():
    line = pace_line(Usage(100, 10, 500, 10.0), Usage(1200, 0, 0))
    assert line.startswith("time: about 2 minutes")
    assert "50 tokens/s" in line
