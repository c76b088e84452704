from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from tests.helpers.tiny_models import save_checkpoint
from toxoid.cli import app, main
from toxoid.config.packaged import packaged_launchers
from toxoid.data.groups import Group, RankedReply
from toxoid.data.parquet import write_groups
from toxoid.data.schemas import user
from toxoid.loop.train import load_settings

CONFIG = """
training: {mode: full, learning_rate: 1e-2, max_steps: 2, batch_size: 2, save_steps: 1, bf16: false, max_length: 256}
options: {pairs: all, loss: sigmoid, beta: 0.1, weight: 1, imitate: none, kl: 0, anchor_nll: 0}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return written(tmp_path / "training.yaml", CONFIG)


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def chats(path: Path, *rows: dict[str, Any]) -> Path:
    return written(path, "".join(f"{json.dumps(row)}\n" for row in rows))


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def groups(path: Path) -> Path:
    made = [
        Group(
            str(i),
            user(f"say {i}"),
            tuple(RankedReply(f"{word} {i}", rank) for rank, word in enumerate("abc")),
        )
        for i in range(5)
    ]
    write_groups(path, made)
    return path


def facts(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "training.json").read_text("utf-8"))
    return read


def run(*arguments: object) -> int:
    return main(["train", *map(str, arguments)])


def test_chats_are_imitated(model, config, tmp_path, capsys):
    data = chats(tmp_path / "data.jsonl", *(chat(f"say {i}", f"fox {i}") for i in range(5)))
    assert run(model, "--data", data, "--config", config, "--out", tmp_path / "made") == 0
    found = facts(tmp_path / "made")
    assert found["fingerprint"]["trainer"] == "sft"
    assert (found["result"]["steps"], found["result"]["examples"]) == (2, 5)
    assert f"model: {tmp_path / 'made'}" in capsys.readouterr().out


def test_preferences_are_learnt_from_groups(model, config, tmp_path):
    data = groups(tmp_path / "data.parquet")
    assert run(model, "--data", data, "--config", config, "--out", tmp_path / "made") == 0
    found = facts(tmp_path / "made")
    assert found["fingerprint"]["trainer"] == "preference"
    assert found["result"]["losses"][0] == pytest.approx(0.6931, abs=1e-3)


def test_nothing_but_the_result_is_left(model, config, tmp_path):
    data = groups(tmp_path / "data.parquet")
    before = set(tmp_path.iterdir())
    assert run(model, "--data", data, "--config", config, "--out", tmp_path / "made") == 0
    assert set(tmp_path.iterdir()) - before == {tmp_path / "made"}


ROW = chat("say 1", "fox 1")
NO_REPLY = {"messages": ROW["messages"][:1]}
NO_ROLE = {"messages": [*ROW["messages"][:1], {"content": "fox"}]}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [ROW, NO_REPLY],
            "data.jsonl, line 2: `messages` do not end with a user's message and the assistant's reply",
        ),
        ([ROW, NO_ROLE], "data.jsonl, line 2: `messages` is no list of {role"),
        ([ROW, {**ROW, "weight": 0}], "data.jsonl, line 2: weight is 0: give a number above 0"),
        ([{"prompt": "x"}], "data.jsonl, row 1: the column 'replies' is missing"),
    ],
)
def test_wrong_data_is_one_line(rows, said, model, tmp_path, capsys):
    data = chats(tmp_path / "data.jsonl", *rows)
    assert run(model, "--data", data, "--out", tmp_path / "made") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training: {batchsize: 2}", "batch_size"),
        ("options: {tries: 2}", "options.tries says which groups there are"),
        ("options: {pears: all}", "pairs"),
        ("model: {endpoint: 'http://127.0.0.1:1/v1'}", "only weights that are here can be trained"),
    ],
)
def test_wrong_settings_are_one_line(text, said, model, tmp_path, capsys):
    data, config = chats(tmp_path / "data.jsonl", ROW), written(tmp_path / "training.yaml", text)
    assert run(model, "--data", data, "--config", config, "--out", tmp_path / "made") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_anchors_with_chats_are_refused(model, tmp_path, capsys):
    data = chats(tmp_path / "data.jsonl", ROW)
    assert run(model, "--data", data, "--anchors", data, "--out", tmp_path / "made") == 2
    assert "anchors go with groups" in capsys.readouterr().err


def test_settings_have_defaults():
    assert load_settings(None).model.source == "lab-base"


def test_of_several_processes_the_main_one_tells_a_mistake(monkeypatch, capsys):
    waited: list[float] = []
    monkeypatch.setattr(app.time, "sleep", waited.append)
    monkeypatch.setenv("RANK", "1")
    assert run("--data", "missing.jsonl", "--out", "made") == 2
    assert capsys.readouterr().err == ""
    assert len(waited) == 1
    monkeypatch.setenv("RANK", "0")
    assert run("--data", "missing.jsonl", "--out", "made") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", sorted(packaged_launchers()))
def test_launchers_are_configurations_of_accelerate(name, tmp_path):
    assert main(["cp", name, str(tmp_path)]) == 0
    found = load_config_from_file(str(tmp_path / f"{name}.yaml"))
    assert found.num_processes > 1
    assert found.mixed_precision == "no"


@pytest.mark.slow
def test_accelerate_launches_two_processes(model, config, tmp_path):
    data = chats(tmp_path / "data.jsonl", *(chat(f"say {i}", f"fox {i}") for i in range(8)))
    halved = written(tmp_path / "halved.yaml", CONFIG.replace("batch_size: 2", "batch_size: 1"))
    assert run(model, "--data", data, "--config", config, "--out", tmp_path / "one") == 0
    assert main(["cp", "cpu", str(tmp_path)]) == 0
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(tmp_path / "cpu.yaml")]
    given = ["--data", data, "--config", halved, "--out", tmp_path / "two"]
    subprocess.run([*launch, "-m", "toxoid", "train", *map(str, [model, *given])], check=True)
    one, two = (facts(tmp_path / name)["result"] for name in ("one", "two"))
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
