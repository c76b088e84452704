"""Reads YAML strictly: safe types, no duplicate keys, no keys that are not text; errors name lines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from toxoid.errors import UsageError

Location: TypeAlias = tuple[str | int, ...]
"""The way to a value: mapping keys and list indices."""
_LINE_BREAKS = frozenset("\x85\u2028\u2029")


def load_yaml(path: str | Path) -> Any:
    """Return what a YAML file holds.

    Raises:
        UsageError: It is missing, not UTF-8, not YAML, has a key twice or a key that is no text.
    """
    return parse_yaml(read_text(path), source=str(path))


def read_text(path: str | Path) -> str:
    """Return the text of a file a user named.

    Raises:
        UsageError: It is missing, a directory, unreadable, or not UTF-8.
    """
    try:
        return Path(path).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def parse_yaml(text: str, *, source: str) -> Any:
    """Return what a YAML text holds; ``source`` names it in errors.

    Raises:
        UsageError: It is not YAML, has a key twice or a key that is no text.
    """
    loader = _StrictLoader(text) if _readable(text, source) else None
    try:
        return loader.get_single_data() if loader else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        raise UsageError(f"{where}: {error.problem or error.context}") from error
    except RecursionError as error:
        raise UsageError(f"{source}: nested too deeply") from error
    finally:
        if loader:
            loader.dispose()


def dump_yaml(value: Mapping[str, Any]) -> str:
    """Return ``value`` as YAML, keys in the given order; :func:`parse_yaml` gives it back."""
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110)
    if not _LINE_BREAKS.isdisjoint(text):  # PyYAML writes these as they are and reads them as blanks
        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=False, width=110)
    return text


def yaml_lines(text: str) -> dict[Location, int]:
    """Return the line (from 1) of every value of a valid YAML text, by its location."""
    lines: dict[Location, int] = {}
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        _collect(root, (), lines)
    return lines


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, refusing duplicate keys and keys that are no text (``on:`` is a boolean to YAML)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        # Looked at before `<<: *anchor` is resolved: an own key may override a merged one.
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key_node.value!r} is not text: put it in quotes",
                    problem_mark=key_node.start_mark,
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f'the key "{key}" stands twice: remove one', problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _readable(text: str, source: str) -> bool:
    try:
        yaml.reader.Reader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UsageError(f"{source}:{line}: holds a control character that YAML does not allow") from error
    return True


def _collect(node: yaml.Node, location: Location, lines: dict[Location, int]) -> None:
    lines.setdefault(location, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            lines[(*location, key.value)] = key.start_mark.line + 1
            _collect(value, (*location, key.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect(value, (*location, index), lines)
