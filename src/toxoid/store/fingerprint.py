"""What sets one run apart from another, and how the difference is told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_SHOWN = 40  # characters of a value that are shown
_ABSENT = object()


def fingerprint_difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Return one line per leaf that differs, e.g. ``"model.revision: "1a2b" -> "3c4d""``, sorted by key.

    Args:
        a: The older fingerprint: nested mappings of JSON values.
        b: The newer one.
    """
    return [f"{path}: {_show(old)} -> {_show(new)}" for path, old, new in _differences(a, b, "")]


def _differences(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted({*a, *b}):
            yield from _differences(
                a.get(key, _ABSENT), b.get(key, _ABSENT), f"{path}.{key}" if path else key
            )
    elif _is_list_of_parts(a) and _is_list_of_parts(b):
        for index in range(max(len(a), len(b))):
            old, new = (side[index] if index < len(side) else _ABSENT for side in (a, b))
            yield from _differences(old, new, f"{path}[{index}]")
    elif not _same(a, b):
        yield path, a, b


def _is_list_of_parts(value: Any) -> bool:
    """Say whether ``value`` is a list worth a look inside; a list of plain values is shown whole."""
    return isinstance(value, (list, tuple)) and any(
        isinstance(item, (Mapping, list, tuple)) for item in value
    )


def _same(a: Any, b: Any) -> bool:
    if a is _ABSENT or b is _ABSENT:
        return a is b
    return bool(json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True))  # 1, 1.0 and true differ


def _show(value: Any) -> str:
    if value is _ABSENT:
        return "(absent)"
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
