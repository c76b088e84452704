"""Judges by path, and panels made of them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.engines.classifiers.tiny import REPLIES, REQUESTS, save_sequence, tiny_words
from toxoid.config.recipe import Recipe
from toxoid.engines.classifiers.folders import save_classifier
from toxoid.errors import UsageError
from toxoid.judges.card import packaged_card
from toxoid.judges.classifier import ClassifierJudge
from toxoid.judges.folders import encoder_folders, judge_from
from toxoid.judges.panel import make_panel, panel_identity, panel_parts
from toxoid.judges.refusal import RefusalJudge
from toxoid.loop.judging import choose_panel


@pytest.fixture
def prompts(tmp_path):
    save_classifier(tiny_words(REQUESTS), tmp_path / "prompts")
    return tmp_path / "prompts"


@pytest.fixture
def replies(tmp_path):
    save_classifier(tiny_words(REPLIES), tmp_path / "replies")
    return tmp_path / "replies"


def test_a_folder_is_laid_over_the_rules(prompts):
    panel = make_panel(str(prompts))
    assert panel.keys() == make_panel("refusal").keys() | {"problematic"}
    assert isinstance(panel["problematic"], ClassifierJudge)
    assert isinstance(panel["refusal"], RefusalJudge)


def test_later_judges_take_over(prompts, replies):
    panel = make_panel(f"refusal+{prompts}+{replies}")
    assert panel["refusal"].name == "replies"
    assert isinstance(panel["harmful"], RefusalJudge)
    assert isinstance(make_panel(f"{replies}+refusal")["refusal"], RefusalJudge)


def test_a_panel_that_answers_everything_is_not_laid_over_another():
    assert panel_parts("lab-oracle") == ["lab-oracle"]
    assert panel_parts("llm + a/b") == ["llm", "a/b"]
    assert panel_parts("encoder") == ["refusal", "encoder"]


def test_a_path_with_a_plus_is_one_judge(prompts):
    odd = prompts.rename(prompts.parent / "a+b:c")
    assert make_panel(str(odd))["problematic"].name == "a+b:c"


def test_a_relative_path_works(prompts, monkeypatch):
    monkeypatch.chdir(prompts.parent)
    assert panel_identity(make_panel("prompts")) == panel_identity(make_panel(f"./{prompts.name}"))
    assert make_panel("prompts")["problematic"].name == "prompts"


def test_the_fingerprint_knows_the_weights(prompts, tmp_path):
    save_classifier(tiny_words(REQUESTS, seed=1), tmp_path / "other")
    save_classifier(tiny_words(replace(REQUESTS, threshold=0.4)), tmp_path / "bolder")
    found = [
        panel_identity(make_panel(str(folder)))
        for folder in (prompts, tmp_path / "other", tmp_path / "bolder")
    ]
    assert all(found[i] != found[j] for i in range(3) for j in range(i))
    json.dumps(found)


def test_a_recipe_names_its_judge_by_path(prompts):
    recipe = Recipe.model_validate(
        {"name": "x", "model": {"source": "m"}, "judge": {"name": f"refusal+{prompts}"}}
    )
    assert "problematic" in choose_panel(recipe)


@pytest.mark.parametrize("name", ["refusl", "./nowhere", "refusal+refusl", ""])
def test_a_name_without_a_judge_is_one_clear_line(name):
    with pytest.raises(UsageError, match="is no judge") as error:
        make_panel(name)
    assert "\n" not in str(error.value)


def test_a_near_miss_is_told():
    with pytest.raises(UsageError, match='Did you mean "refusal"'):
        make_panel("refusl")


def test_a_folder_without_a_judge_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match=r"neither classifier\.json nor config\.json"):
        make_panel(str(tmp_path))


def test_the_label_that_is_a_hit_is_named_after_a_colon(tmp_path):
    save_sequence(tmp_path, ["NEGATIVE", "POSITIVE"])
    with pytest.raises(UsageError, match=f"{tmp_path}:LABEL"):
        judge_from(tmp_path)
    judge = judge_from(f"{tmp_path}:NEGATIVE")
    assert judge.classifier.labels.positive == {"NEGATIVE"}
    with pytest.raises(UsageError, match="no label"):
        judge_from(f"{tmp_path}:NEGATE")


def test_guards_have_a_prefix(monkeypatch):
    monkeypatch.setattr("toxoid.judges.guards.guard_judge", lambda source: f"guard at {source}")
    assert judge_from("guard:some/llama-guard") == "guard at some/llama-guard"


def test_packaged_classifiers_answer_an_aspect_each(tmp_path, monkeypatch):
    monkeypatch.setattr("toxoid.judges.folders._ENCODERS", tmp_path)
    with pytest.raises(UsageError, match="judge train"):
        encoder_folders()
    for name, labels in (("problematic", REQUESTS), ("refusal", REPLIES)):
        save_classifier(tiny_words(labels), tmp_path / name)
    panel = make_panel("encoder")
    assert (panel["problematic"].name, panel["refusal"].name) == ("problematic", "refusal")
    assert packaged_card("encoder", panel)["name"] == "refusal"


def test_a_card_in_the_folder_is_found_and_compared(replies):
    panel = make_panel(str(replies))
    assert packaged_card(str(replies), panel)["n"] == 0
    card = {"name": "mine", "aspect": "refusal", "aspects": ["refusal"], "n": 9}
    card["identity"] = panel["refusal"].identity()
    (replies / "card.json").write_text(json.dumps(card), "utf-8")
    found = packaged_card(str(replies), panel)
    assert (found["name"], found["n"], found["stale"]) == ("mine", 9, False)
    (replies / "card.json").write_text(json.dumps(card | {"identity": {}}), "utf-8")
    assert packaged_card(str(replies), panel)["stale"] is True


def test_the_card_is_that_of_the_judge_of_replies(prompts, replies):
    for name, owner in (
        (str(prompts), "refusal-rules"),
        (f"{prompts}+{replies}", "replies"),
        (f"{replies}+{prompts}", "replies"),
    ):
        assert packaged_card(name, make_panel(name))["name"] == owner


def test_a_damaged_card_is_refused(replies):
    (replies / "card.json").write_text("[]", "utf-8")
    with pytest.raises(UsageError, match=r"card\.json"):
        packaged_card(str(replies), make_panel(str(replies)))


def test_known_panels_load_no_torch():
    code = (
        "import sys; from toxoid.judges.panel import make_panel; from toxoid.judges.card import packaged_card;"
        "packaged_card('refusal', make_panel('refusal')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
