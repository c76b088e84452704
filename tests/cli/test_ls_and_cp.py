from __future__ import annotations

import json

import pytest

from toxoid.cli import main
from toxoid.cli.ls import KINDS
from toxoid.config.packaged import packaged_recipes
from toxoid.config.recipe import load_recipe


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_listed_with_a_line_per_name(kind, capsys):
    assert main(["ls", kind, "--json"]) == 0
    names = json.loads(capsys.readouterr().out)
    assert names
    assert all(description and "\n" not in description for description in names.values())
    assert main(["ls", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(names)


def test_unknown_kind_is_a_usage_error(capsys):
    assert main(["ls", "recipe"]) == 2
    assert "'recipe' is not one of" in capsys.readouterr().err


def test_copied_recipe_is_the_packaged_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["cp", "demo"]) == 0
    assert (tmp_path / "demo.yaml").read_text("utf-8") == packaged_recipes()["demo"].read_text("utf-8")
    assert load_recipe("./demo.yaml") == load_recipe("demo")
    assert "toxoid run --recipe demo.yaml" in capsys.readouterr().out


def test_copy_into_a_folder_that_exists_or_not(tmp_path):
    assert main(["cp", "demo", str(tmp_path)]) == 0
    assert main(["cp", "demo", str(tmp_path / "new" / "mine.yaml")]) == 0
    assert sorted(path.name for path in tmp_path.rglob("*.yaml")) == ["demo.yaml", "mine.yaml"]


def test_file_is_overwritten_only_by_force(tmp_path, capsys):
    target = tmp_path / "r.yaml"
    target.write_text("mine")
    assert main(["cp", "demo", str(target)]) == 2
    assert "exists: give another name, or --force" in capsys.readouterr().err
    assert target.read_text() == "mine"
    assert main(["cp", "demo", str(target), "--force"]) == 0
    assert target.read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["dmeo", "x.yaml"], 'Did you mean "demo"?'), (["demo", "x.txt"], "ends in .yaml")],
)
def test_wrong_copies_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["cp", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_task_folder_is_copied_whole_and_overwritten_only_by_force(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["cp", "lm-eval-c2"]) == 0
    folder = tmp_path / "lm-eval-c2"
    assert sorted(path.name for path in folder.iterdir()) == ["c2_eval.yaml", "utils.py"]
    (folder / "utils.py").write_text("mine")
    assert main(["cp", "lm-eval-c2"]) == 2
    assert "exists: give another name, or --force" in capsys.readouterr().err
    assert main(["cp", "lm-eval-c2", "--force"]) == 0
    assert (folder / "utils.py").read_text() != "mine"
