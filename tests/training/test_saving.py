from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors import SafetensorError

from toxoid.errors import UsageError
from toxoid.training import saving
from toxoid.training.saving import writing


def fail(folder: Path, error: BaseException) -> None:
    folder.mkdir()
    with writing(folder):
        (folder / "half").write_bytes(b"x")
        raise error


def test_what_was_written_stays(tmp_path: Path):
    with writing(tmp_path / "a"):
        (tmp_path / "a").mkdir()
    assert (tmp_path / "a").is_dir()


def test_an_error_number_in_the_text_is_understood(tmp_path: Path):
    with pytest.raises(UsageError, match="disk is full"):
        fail(tmp_path / "a", SafetensorError("I/O error: No space left on device (os error 28)"))


def test_an_error_without_number_on_a_full_disk_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda place: SimpleNamespace(free=0))
    with pytest.raises(UsageError, match="disk is full"):
        fail(tmp_path / "a", RuntimeError("unexpected pos 31104 vs 30992"))


def test_any_other_error_is_passed_on(tmp_path: Path):
    with pytest.raises(RuntimeError, match="shape"):
        fail(tmp_path / "a", RuntimeError("shape"))


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), SafetensorError("os error 28")])
def test_a_half_written_folder_is_removed(tmp_path: Path, error: BaseException):
    with pytest.raises((RuntimeError, KeyboardInterrupt, UsageError)):
        fail(tmp_path / "a", error)
    assert not (tmp_path / "a").exists()
