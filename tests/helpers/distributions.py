"""Distributions that are installed by writing them into a folder of ``sys.path``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(
    folder: Path, name: str, version: str, code: str, entry_points: Mapping[str, Mapping[str, str]]
) -> Path:
    """Write a module ``<name>.py`` and its ``.dist-info`` into ``folder`` and return it.

    ``entry_points`` are by group and name; a value is the attribute of the module.
    """
    module = name.replace("-", "_")
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text(code, "utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8")
    lines = [
        line
        for group, entries in entry_points.items()
        for line in (f"[{group}]", *(f"{key} = {module}:{value}" for key, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder
