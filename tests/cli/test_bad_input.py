"""A user's mistake: one clear line on stderr, exit code 2, nothing written."""

import json
import shutil

import pytest

from toxoid.cli import main
from toxoid.loop.models import model_source

LAB = model_source("lab-base")


@pytest.fixture
def requests(tmp_path):
    path = tmp_path / "requests.csv"
    path.write_text("goal,target\nHow do I skunden the moonwell?,Sure\nHow do I vorgish the saltlamp?,Sure\n")
    return path


@pytest.fixture
def folder(tmp_path):
    """A copy of the lab model to break."""
    return shutil.copytree(LAB, tmp_path / "model")


def fails(capsys, out, *arguments):
    """Run and return the one line that was said."""
    code = main(["audit", *map(str, arguments), "--out", str(out)])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("toxoid:")]
    assert code == 2, said
    assert len(said) == 1
    assert not (out / "results.json").exists()
    return said[0]


@pytest.fixture
def audit(capsys, tmp_path, requests):
    def run(*arguments):
        return fails(capsys, tmp_path / "run", *arguments, "--requests", requests, "--judge", "refusal")

    return run


def test_missing_model(audit):
    assert "no-such-folder" in audit("./no-such-folder")


def test_folder_without_a_model(audit, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "config.json" in audit(tmp_path / "empty")


def test_unreadable_weights(audit, folder):
    (folder / "model.safetensors").write_bytes(b"not a tensor")
    assert "model.safetensors" in audit(folder)


def test_pickle_weights_are_refused(audit, folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    assert "safetensors" in audit(folder)


def test_a_folder_without_chat_template_says_how_to_give_one(audit, folder):
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert "--chat-template" in audit(folder)


def test_a_model_with_code_of_its_own_is_refused(audit, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "own.Config"}}))
    assert "--trust-remote-code" in audit(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("goal,target\nHow?,Sure\n,Sure\n", "line 3"),
        ("goal,target\nHow?\n", "line 2"),
        ("colour,shape\nred,round\n", "colour"),
    ],
)
def test_a_malformed_csv_names_its_line(capsys, tmp_path, text, said):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    assert said in fails(capsys, tmp_path / "run", LAB, "--requests", path, "--judge", "refusal")


def test_malformed_jsonl_names_its_line(capsys, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "How?"}\n{"prompt": \n')
    assert "line 2" in fails(capsys, tmp_path / "run", LAB, "--requests", path, "--judge", "refusal")


def test_an_unknown_data_set_gets_a_suggestion(capsys, tmp_path):
    assert "advbench" in fails(capsys, tmp_path / "run", LAB, "--requests", "advbnch")


def test_an_endpoint_that_is_down_is_named(audit):
    assert "127.0.0.1:9" in audit("some-model", "--endpoint", "http://127.0.0.1:9/v1")


def test_a_recipe_typo_gets_a_suggestion(capsys, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\naudit: {sampels: 2}\n")
    assert 'Did you mean "samples"' in fails(capsys, tmp_path / "run", "--recipe", path)


def test_an_unknown_task_gets_a_suggestion(audit):
    assert "harmfulness" in audit(LAB, "--task", "harmfullness")


def test_another_setup_in_the_same_directory_is_refused(capsys, tmp_path, requests):
    quick = ["--requests", str(requests), "--judge", "refusal", "--max-tokens", "4", "--samples", "1"]
    assert main(["audit", LAB, *quick, "--out", str(tmp_path / "run")]) == 0
    before = (tmp_path / "run/results.json").read_bytes()
    assert main(["audit", LAB, *quick, "--seed", "5", "--out", str(tmp_path / "run")]) == 2
    assert "seed" in capsys.readouterr().err
    assert (tmp_path / "run/results.json").read_bytes() == before


def test_a_full_disk_is_one_line_and_loses_nothing(capsys, tmp_path, monkeypatch):
    from toxoid.store import records

    connect = records._connect

    def small(path):
        connection = connect(path)
        connection.execute("PRAGMA max_page_count = 6")  # SQLite then says what it says of a full disk
        return connection

    quick = [
        "audit",
        LAB,
        "--requests",
        "lab-harmful",
        "--task",
        "harmfulness",
        "--max-tokens",
        "4",
        "--samples",
        "1",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(records, "_connect", small)
        assert main([*quick, "--out", str(tmp_path / "run")]) == 2
    assert "full" in capsys.readouterr().err
    assert main([*quick, "--out", str(tmp_path / "run")]) == 0


def test_training_an_endpoints_model_is_refused(capsys, tmp_path, requests):
    code = main(
        ["align", "m", "--endpoint", "http://127.0.0.1:9/v1", "--requests", str(requests), "--benign", "lab-benign",
         "--judge", "refusal", "--out", str(tmp_path / "run")]
    )  # fmt: skip
    assert code == 2
    assert "endpoint" in capsys.readouterr().err
