"""Recipes of judges: the packaged ones are sound, and a mistake is told in a line."""

from __future__ import annotations

import pytest

from tests.loop.judges import LAB
from toxoid.config.loading import validate
from toxoid.config.packaged import packaged_judge_recipes
from toxoid.errors import UsageError
from toxoid.loop.judge_recipe import JudgeRecipe, as_yaml, load_judge_recipe
from toxoid.training.classifier import ClassifierConfig
from toxoid.training.sft import SFTConfig


def refused(**changes):
    with pytest.raises(UsageError) as error:
        validate(JudgeRecipe, {**LAB, **changes}, source="test")
    [line] = str(error.value).splitlines()
    return line


@pytest.mark.parametrize("name", packaged_judge_recipes())
def test_a_packaged_recipe_is_named_for_its_file_and_its_settings_are_the_trainers(name):
    recipe = load_judge_recipe(name)
    assert recipe.name == name
    ClassifierConfig(**recipe.training)
    SFTConfig(**recipe.adversary_training)


def test_a_recipe_written_out_is_the_same_recipe(tmp_path):
    recipe = load_judge_recipe("judge-lab")
    (tmp_path / "mine.yaml").write_text(as_yaml(recipe))
    assert load_judge_recipe(str(tmp_path / "mine.yaml")) == recipe


def test_a_single_value_is_replaced():
    changed = load_judge_recipe("judge-lab", {"rounds.rounds": 1, "training.epochs": 2})
    assert (changed.rounds.rounds, changed.training["epochs"]) == (1, 2)
    assert changed.training["learning_rate"] == load_judge_recipe("judge-lab").training["learning_rate"]


def test_an_unknown_recipe_is_told_with_what_is_near():
    with pytest.raises(UsageError, match=r'"judge-lap".*Did you mean "?judge-lab'):
        load_judge_recipe("judge-lap")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trainin": {}}, "training"),
        ({"training": {"learning_rat": 1}}, "learning_rate"),
        ({"training": {"epochs": "many"}}, "epochs"),
        ({"adversary_training": {"calibration": 0.1}}, "calibration"),
        ({"kind": "replies"}, "data.labelled"),
        ({"kind": "replies", "data": {"labelled": ["x.csv"]}, "rounds": {}}, "remove rounds"),
        ({"data": {"problematic": ["lab-harmful"]}}, "both sides"),
        ({"rounds": {"rounds": 6}}, "5 or less"),
        ({"rounds": {}}, "truth.name"),
        ({"rounds": {}, "truth": {"name": "people"}, "adversary": {"attacks": ["persona"]}}, "attacks"),
        ({"rounds": {}, "truth": {"name": "lab-oracle"}, "data": {"labelled": ["x.csv"]}}, "x.csv"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(changes, said):
    assert said in refused(**changes)
