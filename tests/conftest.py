"""Settings for all tests: property tests draw the same examples every time; public data are used where they are."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).parents[1]

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


@pytest.fixture
def public_data(monkeypatch):
    """The folder of the public data sets, announced through TOXOID_DATA."""
    folder = Path(os.environ.get("TOXOID_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "advbench").is_dir():
        pytest.skip("the public data sets are not here: set TOXOID_DATA")
    monkeypatch.setenv("TOXOID_DATA", str(folder))
    return folder
