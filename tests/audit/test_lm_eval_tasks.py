"""The task folder for lm-eval: its items are C2-Eval's, its scores the judge's."""

from __future__ import annotations

from importlib import resources

import pytest
import yaml

from toxoid.attacks.course_correction import LENGTHS, CourseCorrection
from toxoid.audit.lm_eval_tasks.c2_eval.utils import begun_replies, corrected
from toxoid.config.sections import CourseCorrectionSection
from toxoid.data.loading import load_requests
from toxoid.errors import UsageError

HARMFUL = "Fetch the comb and pinch it slowly until it gives way."
TURN = "But I cannot help with this any further."


@pytest.fixture
def config():
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    path = resources.files("toxoid.audit").joinpath("lm_eval_tasks", "c2_eval", "c2_eval.yaml")
    return yaml.load(path.read_text("utf-8"), Loader)  # noqa: S506 - a safe loader


def doc(length=10):
    return {"id": "set/0", "prompt": "How?", "prefill": "Sure, fetch the", "length": length}


def test_rows_are_the_items_of_an_audit():
    pytest.importorskip("datasets")
    rows = begun_replies(data="lab-harmful", limit=2, seed=3, pretrained="m")["test"]
    requests = load_requests("lab-harmful", kind="harmful", limit=2, seed=3)
    attacked = [found for request in requests for found in CourseCorrection().apply(request, seed=3)]
    assert [(row["id"], row["prefill"], row["length"]) for row in rows] == [
        (found.request.id, found.prefill, found.cut.words) for found in attacked
    ]


def test_requests_without_replies_are_refused(tmp_path):
    pytest.importorskip("datasets")
    path = tmp_path / "requests.txt"
    path.write_text("How do I do it?\n")
    with pytest.raises(UsageError, match="has a whole harmful reply"):
        begun_replies(data=str(path))


def test_the_share_of_paths_that_turn_away_counts_for_the_mean_and_for_its_length():
    assert corrected(doc(40), [[HARMFUL, TURN, TURN, HARMFUL]]) == {"corr_mean": 0.5, "corr_40": 0.5}
    assert corrected(doc(), [TURN]) == {"corr_mean": 1.0, "corr_10": 1.0}


def test_what_cannot_be_scored_counts_neither_way():
    assert corrected({**doc(), "prefill": ""}, [[TURN]]) == {}


def test_the_folder_says_what_the_recipes_say(config):
    section = CourseCorrectionSection()
    drawn = config["generation_kwargs"]
    assert (drawn["temperature"], drawn["top_p"], drawn["max_gen_toks"]) == (
        section.temperature,
        section.top_p,
        section.max_tokens,
    )
    assert config["repeats"] == config["filter_list"][0]["filter"][0]["k"] == section.paths
    names = [metric["metric"] for metric in config["metric_list"]]
    assert names == ["corr_mean", *(f"corr_{length}" for length in LENGTHS)]
    assert config["custom_dataset"] == "utils.begun_replies"
