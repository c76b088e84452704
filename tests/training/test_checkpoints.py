from __future__ import annotations

from pathlib import Path

import pytest

from toxoid.errors import UsageError
from toxoid.training.checkpoints import (
    differences,
    keep_only,
    last_whole,
    read_history,
    remove_all,
    seal,
)


def write(folder: Path, step: int, *, sealed: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(b"12345")
    if sealed:
        seal(checkpoint, {"a": {"b": 1}}, {"step": step})
    return checkpoint


def test_no_folder_holds_no_checkpoint(tmp_path: Path):
    assert last_whole(tmp_path / "absent") is None


def test_the_highest_step_is_the_last(tmp_path: Path):
    write(tmp_path, 9)
    assert last_whole(tmp_path) != write(tmp_path, 10) == last_whole(tmp_path)


def test_a_checkpoint_without_seal_does_not_count(tmp_path: Path):
    whole = write(tmp_path, 3)
    write(tmp_path, 6, sealed=False)
    assert last_whole(tmp_path) == whole


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"1"), lambda path: path.unlink()])
def test_a_checkpoint_with_a_damaged_file_does_not_count(tmp_path: Path, damage):
    damage(write(tmp_path, 3) / "weights")
    assert last_whole(tmp_path) is None


def test_history_comes_back(tmp_path: Path):
    assert read_history(write(tmp_path, 3), {"a": {"b": 1}}) == {"step": 3}


def test_a_checkpoint_of_another_training_is_refused_and_the_difference_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"different: a\.b"):
        read_history(write(tmp_path, 3), {"a": {"b": 2}})


def test_differences_include_what_only_one_side_has():
    assert differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"d": 2}}) == ["b.c", "b.d"]


def test_keeping_one_removes_the_other_checkpoints_and_nothing_else(tmp_path: Path):
    kept = write(tmp_path, 3)
    write(tmp_path, 6, sealed=False)
    (tmp_path / "checkpoint-notes").mkdir()
    keep_only(tmp_path, kept)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-3", "checkpoint-notes"}


def test_an_empty_folder_goes_with_its_last_checkpoint(tmp_path: Path):
    write(tmp_path / "c", 3)
    remove_all(tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_folder_with_something_else_stays(tmp_path: Path):
    write(tmp_path, 3)
    (tmp_path / "mine.txt").write_text("x")
    remove_all(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
