"""Where the tests of data find files: own fixtures, and the public sets if they are here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent / "fixtures"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def fixtures() -> Path:
    return FIXTURES


@pytest.fixture
def public_data(monkeypatch):
    """The folder of the public data sets, announced through TOXOID_DATA."""
    folder = Path(os.environ.get("TOXOID_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "advbench").is_dir():
        pytest.skip("the public data sets are not here: set TOXOID_DATA")
    monkeypatch.setenv("TOXOID_DATA", str(folder))
    return folder


@pytest.fixture
def write(tmp_path):
    """Write text or bytes to a file of a temporary folder and return its path."""

    def _write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write
