from __future__ import annotations

import json
import subprocess
import sys
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.errors import UsageError
from toxoid.store.keys import canonical_json, content_key, file_sha256, tree_sha256

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_canonical_json_reads_back_as_the_same_value(value):
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), json_values))
def test_order_of_keys_does_not_matter(mapping):
    backwards = dict(reversed(mapping.items()))
    assert content_key(mapping) == content_key(backwards)


@given(json_values, json_values)
def test_keys_are_equal_exactly_when_the_texts_are(a, b):
    assert (content_key(a) == content_key(b)) == (canonical_json(a) == canonical_json(b))


def test_parts_are_not_glued_together():
    assert (
        len({content_key("a", "b"), content_key("ab"), content_key(["a", "b"]), content_key("a", "b", "")})
        == 4
    )


def test_lone_surrogate_can_be_keyed():
    assert content_key("\ud800") != content_key("\ud801")


def test_tuples_and_proxies_count_as_lists_and_dicts():
    assert content_key((1, 2), MappingProxyType({"a": 1})) == content_key([1, 2], {"a": 1})


def test_whole_number_and_float_have_different_keys():
    assert content_key(1) != content_key(1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused(value):
    with pytest.raises(ValueError):
        content_key(value)


@pytest.mark.parametrize("value", [{1: "a"}, {"a", "b"}, b"bytes", object()])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(TypeError):
        content_key(value)


def test_key_is_the_same_in_another_process():
    program = "from toxoid.store.keys import content_key; print(content_key({'b': [1.5, None], 'a': 'ü'}))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == content_key({"a": "ü", "b": [1.5, None]})


def test_file_sha256_is_the_sha256_of_the_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, example B.1
    assert file_sha256(tmp_path / "abc") == expected


def test_tree_sha256_survives_a_move_and_notices_a_changed_byte_or_name(tmp_path):
    for folder, name, text in [("a", "x/y", "1"), ("b", "x/y", "1"), ("c", "x/y", "2"), ("d", "x/z", "1")]:
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    a, b, c, d = (tree_sha256(tmp_path / folder) for folder in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


def test_tree_sha256_looks_only_at_the_pattern(tmp_path):
    (tmp_path / "w.safetensors").write_text("w")
    before = tree_sha256(tmp_path, "*.safetensors")
    (tmp_path / "notes.txt").write_text("n")
    assert tree_sha256(tmp_path, "*.safetensors") == before


def test_tree_sha256_of_nothing_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no file matches"):
        tree_sha256(tmp_path, "*.safetensors")
