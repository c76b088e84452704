"""Whatever a file holds, a user sees one clear line or gets requests; never a traceback."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toxoid.data.layouts import LAYOUTS
from toxoid.data.loading import load_requests
from toxoid.errors import UsageError

SUFFIXES = ["csv", "tsv", "json", "jsonl", "txt", "jsonl.gz"]
COLUMNS = sorted({column for layout in LAYOUTS for column in layout.columns} | {"kind", "label", "output"})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "majority_human"]), inner, max_size=2)
    ),
    max_leaves=6,
)
SOME = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refusal(path) -> str:
    """Load a file; return the line a user sees, empty if there is none."""
    try:
        loaded = load_requests(path)
    except UsageError as error:
        return str(error)
    return "" if all(request.prompt.strip() for request in loaded) else "an empty prompt got through\n"


@SOME
@given(
    content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_arbitrary_bytes_are_read_or_refused(tmp_path, suffix, content):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    assert "\n" not in refusal(path)


@SOME
@given(
    layout=st.sampled_from(LAYOUTS),
    extra=st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=3),
    data=st.data(),
)
def test_arbitrary_values_in_known_columns_are_read_or_refused(tmp_path, layout, extra, data):
    row = {column: data.draw(VALUES | st.just("word")) for column in layout.columns} | extra
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert "\n" not in refusal(path)
