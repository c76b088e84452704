from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from toxoid.store.fingerprint import fingerprint_difference
from toxoid.store.keys import canonical_json

values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0]) | st.sampled_from("ab"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)


@given(values, values)
def test_a_difference_is_told_exactly_when_there_is_one(a, b):
    same = canonical_json(a) == canonical_json(b)
    assert (fingerprint_difference({"x": a}, {"x": b}) == []) == same


def test_nested_keys_are_dotted_and_sorted():
    old = {"model": {"revision": "1a", "dtype": "float32"}, "seed": 0}
    new = {"model": {"revision": "2b", "dtype": "float32"}, "seed": 1}
    assert fingerprint_difference(old, new) == ['model.revision: "1a" -> "2b"', "seed: 0 -> 1"]


def test_missing_sides_are_absent():
    assert fingerprint_difference({"a": 1}, {"b": None}) == ["a: 1 -> (absent)", "b: (absent) -> null"]


def test_list_of_plain_values_is_shown_whole_and_list_of_parts_by_index():
    assert fingerprint_difference({"t": ["a"]}, {"t": ["a", "b"]}) == ['t: ["a"] -> ["a", "b"]']
    old, new = {"arms": [{"m": "x"}]}, {"arms": [{"m": "y"}, {"m": "z"}]}
    assert fingerprint_difference(old, new) == ['arms[0].m: "x" -> "y"', 'arms[1]: (absent) -> {"m": "z"}']


def test_long_values_are_shortened():
    (line,) = fingerprint_difference({"h": "a" * 99}, {"h": "b" * 99})
    assert len(line) < 90
    assert "…" in line
