from __future__ import annotations

import errno
import json
import os
import sqlite3

import pytest

from toxoid.errors import UsageError
from toxoid.store.files import (
    disk_errors,
    explain_disk_error,
    publish_folder,
    write_json_atomic,
    write_text_atomic,
)


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_text_is_written_and_no_neighbour_is_left(tmp_path):
    write_text_atomic(tmp_path / "a.txt", "ü\n")
    assert (tmp_path / "a.txt").read_bytes() == "ü\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_full_disk_keeps_the_old_text_and_leaves_no_neighbour(tmp_path, monkeypatch):
    write_text_atomic(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(UsageError, match=r"a\.txt: the disk is full: .*run the same command again"):
        write_text_atomic(tmp_path / "a.txt", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_file_gets_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    write_text_atomic(tmp_path / "a.txt", "")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_lone_surrogate_is_written_as_its_escape(tmp_path):
    write_text_atomic(tmp_path / "a.txt", "x\ud800y")
    assert (tmp_path / "a.txt").read_text("utf-8") == "x\\ud800y"


def test_json_keeps_the_order_of_keys(tmp_path):
    write_json_atomic(tmp_path / "a.json", {"b": 1, "a": ("x", None)})
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["b", "a"]


def test_json_refuses_nan_before_touching_the_file(tmp_path):
    write_json_atomic(tmp_path / "a.json", {"a": 1})
    with pytest.raises(ValueError):
        write_json_atomic(tmp_path / "a.json", {"a": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}


def test_path_below_a_file_is_one_clear_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file, not a directory"):
        write_text_atomic(tmp_path / "file" / "a.txt", "")


def test_published_folder_replaces_the_old_one(tmp_path):
    for name, text in [("final", "old"), ("built", "new")]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "w").write_text(text)
    publish_folder(tmp_path / "built", tmp_path / "final")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]
    assert (tmp_path / "final" / "w").read_text() == "new"


def test_read_only_database_is_explained(tmp_path):
    connection = sqlite3.connect(tmp_path / "a")
    connection.execute("CREATE TABLE t(a)")
    connection.execute("PRAGMA query_only = 1")
    with pytest.raises(UsageError, match="store: the place is read-only"), disk_errors(tmp_path / "store"):
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()


def test_unknown_errors_pass_through(tmp_path):
    with pytest.raises(OSError, match="strange"), disk_errors(tmp_path):
        raise OSError(errno.EDOM, "strange")
    with pytest.raises(sqlite3.ProgrammingError), disk_errors(tmp_path):
        raise sqlite3.ProgrammingError("closed")


def test_explanation_names_the_file_where_the_error_does():
    error = OSError(errno.ENOSPC, "No space left on device", "/some/where")
    assert explain_disk_error(error).startswith("/some/where: the disk is full")
    assert explain_disk_error(ValueError("x")) is None
