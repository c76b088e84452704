"""Prompt templates are data: YAML files in this package, read once and hashed into fingerprints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

import yaml

from toxoid.errors import UsageError, did_you_mean

_FOLDER = resources.files("toxoid.config").joinpath("prompts")


@cache
def _text(name: str) -> str:
    path = _FOLDER.joinpath(f"{name}.yaml")
    if not path.is_file():
        known = [
            entry.name.removesuffix(".yaml") for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml")
        ]
        raise UsageError(
            f'no prompt file named "{name}".{did_you_mean(name, known)} Known: {", ".join(sorted(known))}'
        )
    return path.read_text("utf-8")


@cache
def prompt(name: str) -> dict[str, Any]:
    """Return the packaged prompt file ``<name>.yaml`` (``name`` may contain a folder, e.g. ``"attacks/persona"``).

    Raises:
        UsageError: There is no such file.
    """
    loaded: dict[str, Any] = yaml.safe_load(_text(name))
    return loaded


def prompts_hash(names: Iterable[str]) -> str:
    """Return a sha256 over the texts of the named prompt files, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(set(names)):
        digest.update(f"{name}\0{_text(name)}\0".encode())
    return digest.hexdigest()
