"""Checks plain data against a model; says in one line what is wrong: where, what was given and expected."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from toxoid.config.yaml_files import Location, dump_yaml, load_yaml, parse_yaml, yaml_lines
from toxoid.errors import UsageError, did_you_mean

__all__ = ["Section", "dump_yaml", "load_yaml", "parse_yaml", "validate", "yaml_lines"]

_SHOWN = 3  # problems told at once
_GIVEN = 60  # characters of a wrong value that are shown
_EXPECTED = {  # by the beginning of pydantic's error type; the first that fits
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string_too_short": "text that is not empty",
    "string_type": "text",
    "list": "a list",
    "tuple": "a list",
    "model_": "keys with values",
    "dict": "keys with values",
    "too_short": "at least {min_length} value",
    "greater_than_equal": "a value of {ge} or more",
    "less_than_equal": "a value of {le} or less",
    "greater_than": "a value above {gt}",
    "less_than": "a value below {lt}",
    "finite_number": "a finite number",
    "invalid-json-value": "a plain value",
}
M = TypeVar("M", bound=BaseModel)


class Section(BaseModel):
    """The base of all parts of a recipe: unknown keys are errors, values do not change, NaN is no number."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )


def validate(model: type[M], data: Any, *, source: str, lines: Mapping[Location, int] | None = None) -> M:
    """Return ``data`` as ``model``.

    Args:
        model: What is expected.
        data: Plain values, e.g. from YAML.
        source: Names the data in errors: a file, or words.
        lines: Line of each value (:func:`toxoid.config.yaml_files.yaml_lines`), where there is a file.

    Raises:
        UsageError: One line with up to three problems, each with its dotted place.
    """
    if not isinstance(data, Mapping):
        given = "nothing" if data is None else f"a {type(data).__name__}"
        raise UsageError(f"{source}: expected keys with values ({_keys(model)}), found {given}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = _problems(model, data, error.errors(include_url=False))
        raise UsageError(_one_line(problems, source, lines or {})) from error


def _one_line(problems: Mapping[Location, str], source: str, lines: Mapping[Location, int]) -> str:
    shown = list(problems.items())[:_SHOWN]
    line = _line(shown[0][0], lines)
    texts = [shown[0][1]]
    for location, text in shown[1:]:
        number = _line(location, lines)
        texts.append(f"line {number}: {text}" if number else text)
    more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
    return f"{source}{f':{line}' if line else ''}: {'; '.join(texts)}{more}"


def _line(location: Location, lines: Mapping[Location, int]) -> int | None:
    """Return the line of a value, or of the closest part around it that has one."""
    while location:
        if location in lines:
            return lines[location]
        location = location[:-1]
    return None


def _problems(model: type[BaseModel], data: Any, errors: Sequence[ErrorDetails]) -> dict[Location, str]:
    """Return one text per place; the branches of a union (``auto`` or a boolean) are joined by "or"."""
    groups: dict[Location, list[ErrorDetails]] = {}
    for error in errors:
        groups.setdefault(_place(error, data), []).append(error)
    return {place: _text(model, place, found) for place, found in groups.items()}


def _place(error: ErrorDetails, data: Any) -> Location:
    """Return the location in ``data``, without the steps that pydantic adds for unions and keys."""
    place: list[str | int] = []
    for step in error["loc"]:
        inside = isinstance(data, Mapping) and step in data
        if inside or (isinstance(data, (list, tuple)) and isinstance(step, int) and step < len(data)):
            data = data[step]
            place.append(step)
        elif error["type"] == "missing":
            place.append(step)
    return tuple(place)


def _text(model: type[BaseModel], place: Location, errors: Sequence[ErrorDetails]) -> str:
    first, name = errors[0], _dotted(place)
    kinds = {error["type"] for error in errors}
    if "extra_forbidden" in kinds:
        return _unknown_key(_models(model, place[:-1]), place)
    if kinds == {"missing"}:
        return f"{name} is missing"
    if "value_error" in kinds:
        text = str(first["msg"]).removeprefix("Value error, ")
        return f"{name}: {text}" if place else text
    expected = " or ".join(dict.fromkeys(_expected(error) for error in errors))
    hint = did_you_mean(first["input"], _literals(first)) if isinstance(first["input"], str) else ""
    return f"{name} is {_show(first['input'])}, expected {expected}.{hint}".removesuffix(".")


def _unknown_key(models: Sequence[type[BaseModel]], place: Location) -> str:
    known = [name for model in models for name in model.model_fields]
    where = f" in {_dotted(place[:-1])}" if place[:-1] else ""
    hint = did_you_mean(str(place[-1]), known) or f" Known: {', '.join(known)}"
    return f'unknown key "{place[-1]}"{where}.{hint}'


def _expected(error: ErrorDetails) -> str:
    """Return the expectation in words of a recipe, not of Python."""
    kind, context = error["type"], error.get("ctx", {})
    for start, words in _EXPECTED.items():
        if kind.startswith(start):
            return words.format(**context)
    return str(error["msg"]).removeprefix("Input should be ")


def _literals(error: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']+)'", str(error.get("ctx", {}).get("expected", "")))


def _models(model: type[BaseModel], place: Location) -> list[type[BaseModel]]:
    """Return the models that may stand at ``place``."""
    found: list[type[BaseModel]] = [model]
    for step in place:
        if isinstance(step, int):
            continue  # a list's items: already looked through
        fields = [one.model_fields[step] for one in found if step in one.model_fields]
        found = [
            inner
            for field in fields
            for part in (field.annotation, *field.metadata)
            for inner in _inside(part)
        ]
    return found


def _inside(annotation: Any) -> list[type[BaseModel]]:
    """Return the models inside an annotation such as ``list[X] | None``, or of a marker with ``.model``."""
    annotation = getattr(annotation, "model", annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, Annotated, list, tuple, dict):
        return [model for part in get_args(annotation) for model in _inside(part)]
    return []


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(list(model.model_fields)[:6]) + (", …" if len(model.model_fields) > 6 else "")


def _dotted(place: Location) -> str:
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _show(value: Any) -> str:
    text = "null" if value is None else "a group of keys" if isinstance(value, Mapping) else repr(value)
    return text if len(text) <= _GIVEN else f"{text[: _GIVEN - 1]}…"
