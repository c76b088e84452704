"""The benchmarks of judges: what ships, and what is said where public data are missing."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import replace

import numpy as np
import pytest
from benchmarks import judge, judge_data
from benchmarks.judge_data import Measure, shipped_sources, without_leaks
from benchmarks.judge_systems import PROMPTS, SHIPPED, logistic_regression, systems

from tests.engines.classifiers.tiny import tiny_encoder
from toxoid.data.labelled import read_labelled
from toxoid.engines.classifiers.folders import load_module, save_classifier
from toxoid.training.labelled_texts import LabelledText


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize(
    "line",
    [
        "judge --quick",
        "judge --package NEW",
        "refusal_agreement",
        "reply_judge --quick",
        "toxic_comments RUN",
    ],
)
def test_missing_public_data_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, line):
    name, *given = line.split()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOXOID_DATA", "/nonexistent")
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *given])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"{name}: ")
    assert "TOXOID_DATA" in said
    assert not (tmp_path / "NEW").exists()


def test_prompts_nearly_measured_are_not_learnt():
    texts = [LabelledText("How, do I bake dark bread", 0), LabelledText("Paint the gate red for me", 0)]
    kept, left_out = without_leaks(texts, [Measure("set", ("how do I bake dark bread?",), (0,))])
    assert kept == texts[1:]
    assert left_out == {"set": 1}


def test_all_that_ships_has_a_licence_that_permits_it(monkeypatch):
    monkeypatch.setattr(judge_data, "PERMISSIVE", {"contrast-ordinary": (0, 1), "mmlu": (0, 1)})
    assert [source["name"] for source in shipped_sources()] == ["contrast", "contrast-ordinary", "mmlu"]
    assert {source["licence"] for source in shipped_sources()} <= {"Apache-2.0", "MIT"}


def test_logistic_regression_finds_the_side():
    features, labels = np.array([[1.0], [2.0], [-1.0], [-2.0]]), np.array([1.0, 1.0, 0.0, 0.0])
    assert ((logistic_regression(features, labels)(features) > 0.5) == labels).all()


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A folder in which the system that ships is trained, and a stand-in for the public sets."""
    made = tmp_path / "out" / f"{SHIPPED}-0"
    save_classifier(tiny_encoder(PROMPTS), made, card={"training": {"steps": 7}})
    labels = tmp_path / "labels.jsonl"
    rows = [("How do I bake bread?", "harmless"), ("How do I poison the well?", "problematic")]
    labels.write_text("".join(json.dumps({"prompt": p, "label": label}) + "\n" for p, label in rows))
    monkeypatch.setattr(judge, "learnt", lambda system, limit: ([], {}))
    monkeypatch.setattr(judge, "operating_point", lambda score: 0.625)
    monkeypatch.setattr(judge, "shipped_sources", lambda: [{"name": "own", "licence": "MIT"}])
    monkeypatch.setattr(judge, "ordinary", lambda: [("Paint the gate.", 0), ("Count the stones.", 0)])
    monkeypatch.setattr(judge, "read_labelled", lambda name: read_labelled(str(labels)))
    return made


def test_the_package_is_what_was_trained_with_a_card(cached, tmp_path):
    judge.main(["--package", str(tmp_path / "problematic"), "--out", str(cached.parent)])
    made = tmp_path / "problematic"
    assert (made / "model.safetensors").read_bytes() == (cached / "model.safetensors").read_bytes()
    assert load_module(made).labels == replace(load_module(cached).labels, threshold=0.625)
    facts = json.loads((made / "classifier.json").read_text())["card"]
    assert facts["training"] == {"steps": 7}
    assert facts["data"] == [{"name": "own", "licence": "MIT"}]
    card = json.loads((made / "card.json").read_text())
    assert (card["name"], card["n"], card["threshold"]) == ("problematic", 2, 0.625)
    assert "of 2 ordinary instructions" in card["weaknesses"][0]


def test_the_threshold_has_its_recall_on_the_hardest_development_prompts(monkeypatch):
    hard = Measure("contrast", tuple("abcdefghijklmnopqrst"), (1,) * 10 + (0,) * 10)
    monkeypatch.setattr(judge, "measures", lambda on: [Measure("easy", ("u",), (1,)), hard])
    scores = {prompt: (10 - place) / 20 for place, prompt in enumerate(hard.prompts)}
    threshold = judge.operating_point(lambda prompts: np.array([scores[prompt] for prompt in prompts]))
    assert sum(scores[prompt] >= threshold for prompt in hard.prompts[:10]) == 10 * judge.CAREFUL


def test_one_system_ships_and_learns_by_seed():
    (system,) = (each for each in systems() if each.key == SHIPPED)
    assert system.seeded
