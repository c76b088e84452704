from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.config.yaml_files import dump_yaml, load_yaml, parse_yaml, yaml_lines
from toxoid.errors import UsageError

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), plain, max_size=4))
def test_what_is_dumped_reads_back_equal(value):
    assert parse_yaml(dump_yaml(value), source="x") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", r'x\.yaml:4: the key "c" stands twice'),
        ("a: 1\non: 2\n", r"x\.yaml:2: the key 'on' is not text: put it in quotes"),
        ("a: [1\nb: 2\n", r"x\.yaml:2: "),
        ("a: 1\nb: \x07\n", r"x\.yaml:2: holds a control character"),
        ("a: !!python/object/apply:os.system [ls]\n", r"x\.yaml:1: could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", r"x\.yaml:2: but found another document"),
        ("[" * 3000, "nested too deeply"),
    ],
)
def test_bad_yaml_is_one_line_with_its_place(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_yaml(text, source="x.yaml")
    assert "\n" not in str(caught.value)


def test_own_key_goes_before_a_merged_one():
    text = "a: &a {x: 1, y: 1}\nb:\n  <<: *a\n  x: 2\n"
    assert parse_yaml(text, source="x")["b"] == {"x": 2, "y": 1}


def test_lines_are_those_of_the_keys():
    lines = yaml_lines("a:\n  b: 1\nc:\n  - d: 1\n  - d: 2\n")
    assert (lines["a", "b"], lines["c", 1, "d"]) == (2, 5)
    assert yaml_lines("") == {}


def test_file_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert load_yaml(tmp_path / "a.yaml") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"a: \xff", "not UTF-8 text"), ("folder", "cannot be read")],
)
def test_unreadable_file_is_one_line(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        load_yaml(path)
