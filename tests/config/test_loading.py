from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field

from toxoid.config.loading import Section, validate
from toxoid.errors import UsageError


class Inner(Section):
    size: int = Field(1, ge=1)
    mode: Literal["fast", "slow"] | bool = "fast"


class Outer(Section):
    name: str
    inner: Inner = Inner()
    parts: tuple[Inner, ...] = ()
    maybe: Inner | None = None
    named: dict[str, Inner] = Field(default={})


def problem(lines=None, **data):
    with pytest.raises(UsageError) as caught:
        validate(Outer, data, source="x.yaml", lines=lines)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_good_data_becomes_the_model():
    assert validate(Outer, {"name": "a", "parts": [{"size": 2}]}, source="x").parts[0].size == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"nam": "a"}, 'unknown key "nam". Did you mean "name"?'),
        ({"name": "a", "inner": {"sise": 1}}, 'unknown key "sise" in inner. Did you mean "size"?'),
        ({"name": "a", "parts": [{}, {"sise": 1}]}, 'unknown key "sise" in parts[1]. Did you mean "size"?'),
        ({"name": "a", "maybe": {"sise": 1}}, 'unknown key "sise" in maybe. Did you mean "size"?'),
        ({"name": "a", "zzz": 1}, 'unknown key "zzz". Known: name, inner, parts, maybe, named'),
        ({}, "name is missing"),
        ({"name": 3}, "name is 3, expected text"),
        ({"name": "a", "inner": {"size": "two"}}, "inner.size is 'two', expected a whole number"),
        ({"name": "a", "inner": {"size": 0}}, "inner.size is 0, expected a value of 1 or more"),
        ({"name": "a", "inner": None}, "inner is null, expected keys with values"),
        (
            {"name": "a", "inner": {"mode": "fats"}},
            "inner.mode is 'fats', expected 'fast' or 'slow' or true or false",
        ),
        ({"name": "a", "parts": 3}, "parts is 3, expected a list"),
    ],
)
def test_each_mistake_is_named_in_words(data, message):
    text = problem(**data)
    assert text.startswith("x.yaml: ")
    assert message in text


def test_several_problems_stand_in_one_line_and_the_rest_is_counted():
    text = problem(name=1, inner={"size": 0}, parts=[{"size": 0}, {"size": 0}, {"size": 0}])
    assert text.count(";") == 2
    assert text.endswith("(and 2 more)")


def test_line_of_the_wrong_value_is_named():
    lines = {("name",): 1, ("inner",): 2, ("inner", "size"): 3}
    assert problem(lines, name="a", inner={"size": 0}).startswith("x.yaml:3: ")
    assert problem(lines, name="a", inner={"sise": 0}).startswith("x.yaml:2: ")


@pytest.mark.parametrize(("data", "found"), [(None, "nothing"), ([1], "a list"), ("text", "a str")])
def test_what_is_no_mapping_is_named(data, found):
    with pytest.raises(UsageError, match=f"expected keys with values .* found {found}"):
        validate(Outer, data, source="x")


def test_long_values_are_shortened():
    assert len(problem(name="a", inner={"size": "x" * 500})) < 150


def test_sections_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        Inner().size = 2
