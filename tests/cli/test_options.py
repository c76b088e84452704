"""What the command line makes of a recipe."""

from __future__ import annotations

import sys

import pytest

from toxoid.cli import main
from toxoid.cli.execute import command_line
from toxoid.cli.options import resolve
from toxoid.config.recipe import load_recipe, only_arms, single_arm, with_overrides, without_arms
from toxoid.errors import UsageError

OWN = {"requests": "mine.csv", "benign": "fine.csv"}


@pytest.fixture
def demo():
    return load_recipe("demo")


def test_own_sets_are_tested_and_trained_on(demo):
    found = resolve(only_arms(demo, ["sft"]), None, OWN)
    assert found.data.sets == {"harmful": "mine.csv", "benign": "fine.csv"}
    assert (found.train.harmful, found.train.benign) == (("mine.csv",), ("fine.csv",))
    assert [arm.name for arm in found.arms] == ["mistake-analysis", "sft"]


@pytest.mark.parametrize(
    ("recipe", "trained"), [("shield", ("fine.csv", "c.csv")), ("default", ("fine.csv",))]
)
def test_own_contentious_requests_are_trained_on_where_the_recipe_trains_on_its_own(recipe, trained):
    found = resolve(load_recipe(recipe), None, OWN | {"contentious": "c.csv"})
    assert found.train.benign == trained


@pytest.mark.parametrize(
    "given", [{"requests": "mine.csv"}, {"benign": "fine.csv"}, {"contentious": "c.csv"}]
)
def test_own_sets_beside_an_arm_with_sets_of_its_own_are_refused(demo, given):
    with pytest.raises(UsageError, match=r'arm "mistake-analysis-novel" .*lab-policy.*--method'):
        resolve(demo, None, given)


def test_an_arm_may_give_up_its_own_sets(demo):
    arms = ("mistake-analysis-novel", "sft-novel")
    given = OWN | {"overrides": [f"arms.{arm}.train=null" for arm in arms]}
    assert all(arm.train is None for arm in resolve(demo, None, given).arms)


def test_without_own_sets_arms_keep_theirs(demo):
    assert resolve(demo, None, {"seed": 3}) == with_overrides(demo, {"seed": 3})


def test_an_audit_on_own_sets_asks_nothing_of_the_arms_left_out(demo):
    needs = with_overrides(demo, {"arms.sft-novel.tasks": ["novel-harm"]})
    assert resolve(without_arms(needs), None, OWN).audit.tasks == (
        "harmfulness",
        "jailbreak",
        "prefill",
        "helpfulness",
        "hijacking",
    )


def test_own_sets_are_begun_at_the_lengths_of_c2_eval_unless_they_are_given():
    lab = load_recipe("audit")
    own = resolve(without_arms(lab), None, OWN | {"tasks": ["course-correction"]})
    assert lab.audit.course_correction.lengths == (10, 20, 30, 40)
    assert own.audit.course_correction.lengths == (10, 20, 30, 40, 50, 60, 70, 80)
    assert (lab.audit.course_correction.limit, own.audit.course_correction.limit) == (60, None)
    assert own.audit.tasks == ("course-correction",)
    given = OWN | {"overrides": ["audit.course_correction.lengths=[5]"]}
    assert resolve(without_arms(lab), None, given).audit.course_correction.lengths == (5,)


def test_settings_reach_the_arm_that_a_verb_makes(demo):
    reduced = single_arm(load_recipe("default"), "sft")
    found = resolve(reduced, None, {"overrides": ["arms.sft.training.epochs=1"]})
    assert found.arms[0].training == {"epochs": 1.0}


@pytest.mark.parametrize("setting", ["arms=[]", "arms.0.name=other", "arms=[{name: a, method: sft}]"])
def test_settings_do_not_change_which_arms_there_are(demo, setting):
    with pytest.raises(UsageError, match=r"mistake-analysis were chosen: .*--method"):
        resolve(single_arm(demo, "mistake-analysis"), None, {"overrides": [setting]})


@pytest.mark.parametrize("chosen", [[], ["--method", "sft-novel"]])
def test_a_run_that_would_train_on_other_sets_is_one_line(capsys, tmp_path, chosen):
    arguments = ["run", "--recipe", "demo", *chosen, "--requests", "mine.csv", "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("trains on sets of its own") == 1
    assert not (tmp_path / "run").exists()


def test_the_command_line_is_for_a_shell_and_holds_no_keys(monkeypatch):
    address = "http://user:secret@h:1/v1?key=secret"
    given = ["toxoid", "run", "a b", "--judge-endpoint", address, "--set", f"judge={{endpoint: {address}}}"]
    monkeypatch.setattr(sys, "argv", given)
    assert command_line() == (
        "toxoid run 'a b' --judge-endpoint http://h:1/v1 --set 'judge={endpoint: http://h:1/v1}'"
    )
