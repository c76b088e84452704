"""``toxoid synth``: data from one command."""

import pytest

from toxoid.cli import main
from toxoid.data.parquet import read_groups


def call(folder, *arguments):
    return main(["synth", "course-correction", "--out", str(folder), *arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synth") / "data"
    assert call(folder, "--requests", "lab-harmful", "--limit", "5", "--shard", "3") == 0
    return folder


def test_the_lab_s_model_corrects_the_lab_s_training_goals(made):
    groups = list(read_groups(made))
    assert len(groups) == 5
    assert all(group.id.startswith("lab-harmful/train/") for group in groups)
    assert {group.metadata["wording"] for group in groups} == {"lab"}


def test_the_counts_end_on_stdout(made, capsys):
    assert call(made, "--requests", "lab-harmful", "--limit", "5", "--shard", "3") == 0
    out, err = capsys.readouterr()
    assert "groups and pairs: " in out
    assert "pairs " in out
    assert "2 of 2 shards are there already" in err


def test_another_seed_is_refused_in_one_line(made, capsys):
    assert call(made, "--requests", "lab-harmful", "--limit", "5", "--shard", "3", "--seed", "1") == 2
    assert "seed: 0 -> 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--requests", "no-such-set"], "neither a data set nor a file"),
        (["--requests", "FILE"], "none of 1 requests has a full harmful reply"),
        (["--requests", "lab-harmful", "--judge", "llm"], "needs a model"),
        (["--requests", "lab-harmful", "--shard", "0"], "--shard"),
        (["./no-such-folder", "--requests", "lab-harmful"], "no-such-folder"),
    ],
)
def test_a_mistake_is_one_line(capsys, tmp_path, arguments, said):
    (tmp_path / "bare.csv").write_text("prompt\nHow do I curse a well?\n")
    given = [str(tmp_path / "bare.csv") if argument == "FILE" else argument for argument in arguments]
    assert call(tmp_path / "data", *given) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("toxoid:")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "data").exists()


def test_a_folder_for_the_data_has_to_be_given(capsys):
    assert main(["synth", "course-correction"]) == 2
    assert "--out" in capsys.readouterr().err
