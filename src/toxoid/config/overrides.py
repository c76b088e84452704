"""Single values of a recipe by dotted place: ``training.epochs=2``, ``arms.sft.training.epochs=2``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from toxoid.config.yaml_files import parse_yaml
from toxoid.errors import UsageError, did_you_mean


def parse_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` texts as a mapping; values are read as YAML (``null``, ``[a, b]``, ``0.5``).

    Raises:
        UsageError: One has no ``=`` or no key, or its value is not YAML.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f'"{text}" is no setting: write KEY=VALUE, e.g. audit.samples=4')
        found[key.strip()] = parse_yaml(value, source=f"the value of {key.strip()}")
    return found


def put(data: dict[str, Any], key: str, value: Any) -> None:
    """Set one dotted place in plain data; a last key that is new is left for the recipe's check to judge."""
    *way, last = key.split(".")
    place: Any = data
    for step in way:
        if isinstance(place, dict) and place.get(step, "") is None:
            place[step] = {}  # an optional section that the recipe leaves out
        place = place[_index(place, step, key)]
    if not isinstance(place, (dict, list)):
        raise UsageError(f'setting {key}: "{way[-1]}" is a single value, it has no "{last}"')
    target: Any = place
    target[_index(place, last, key, new=True)] = value


def _index(place: Any, step: str, key: str, *, new: bool = False) -> str | int:
    """Return where ``step`` leads in a mapping or list."""
    if isinstance(place, list):
        names = {item["name"]: index for index, item in enumerate(place) if "name" in item}
        if step in names:
            return names[step]
        if step.isdecimal() and int(step) < len(place):
            return int(step)
        known = [*names] or [str(index) for index in range(len(place))]
    elif isinstance(place, dict):
        if new or step in place:
            return step
        known = [*place]
    else:
        raise UsageError(f'setting {key}: "{step}" leads into a single value')
    raise UsageError(
        f'setting {key}: there is no "{step}".{did_you_mean(step, known)} Known: {", ".join(known) or "none"}'
    )
