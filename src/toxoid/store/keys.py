"""Content keys: the same content gives the same key, on every machine and in every process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from toxoid.errors import UsageError

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""What can be stored and hashed. Tuples read back as lists; mappings have string keys."""


def canonical_json(value: JSON) -> str:
    """Return the one text for ``value``: keys sorted, no spaces, ASCII only.

    ASCII, because a lone surrogate (an endpoint may send one) cannot be encoded as UTF-8; its escape can.
    ``1`` and ``1.0`` are different values here, as they are in a recipe.

    Raises:
        TypeError: ``value`` holds something that is not JSON, or a mapping key that is not a string
            (``{1: ...}`` and ``{"1": ...}`` must not share a key).
        ValueError: ``value`` holds NaN or an infinity, which JSON does not have.
    """
    return json.dumps(plain_json(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_key(*parts: JSON) -> str:
    """Return the sha256 (hex) of the parts, in order; ``("a", "b")`` and ``("ab",)`` differ."""
    return hashlib.sha256(canonical_json(parts).encode("ascii")).hexdigest()


def file_sha256(path: str | Path) -> str:
    """Return the sha256 (hex) of a file's bytes, read in constant memory.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_sha256(folder: str | Path, pattern: str = "**/*") -> str:
    """Return one sha256 (hex) over names and contents of the files below ``folder`` that match ``pattern``.

    Names are relative with forward slashes, so that a moved folder keeps its hash; a link counts as the
    file it points to, because the hub's cache is made of links.

    Raises:
        UsageError: No file matches: a hash of nothing would make unlike folders look alike.
        OSError: A file cannot be read.
    """
    root = Path(folder)
    names = sorted(path.relative_to(root).as_posix() for path in root.glob(pattern) if path.is_file())
    if not names:
        raise UsageError(f'no file matches "{pattern}" in {root}: give the folder that holds the files')
    return content_key([[name, file_sha256(root / name)] for name in names])


def plain_json(value: Any) -> Any:
    """Return ``value`` in plain dicts and lists, refusing what JSON would silently change.

    Raises:
        TypeError: ``value`` holds something that is not JSON, or a mapping key that is not a string.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"a JSON key must be a string, not {type(key).__name__}: {key!r}")
        return {key: plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    raise TypeError(f"not a JSON value: {type(value).__name__}")
