"""The recipes and launchers in the package: names, files and one-line descriptions, without loading pydantic."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable

from toxoid.errors import UsageError, did_you_mean


def packaged_recipes() -> dict[str, Traversable]:
    """Return the packaged recipes by name, sorted."""
    return _yaml_files("recipes")


def packaged_launchers() -> dict[str, Traversable]:
    """Return the packaged configurations of ``accelerate launch`` by name, sorted."""
    return _yaml_files("launchers")


def _yaml_files(folder_name: str) -> dict[str, Traversable]:
    folder = resources.files("toxoid").joinpath(folder_name)
    files = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda e: e.name
    )
    return {entry.name.removesuffix(".yaml"): entry for entry in files}


def packaged_recipe(name: str) -> Traversable:
    """Return the file of one packaged recipe.

    Raises:
        UsageError: There is none of that name.
    """
    known = packaged_recipes()
    if name not in known:
        raise UsageError(
            f'there is no recipe "{name}".{did_you_mean(name, known)} Known: {", ".join(known)}; '
            "a file's name ends in .yaml"
        )
    return known[name]


def recipe_descriptions() -> dict[str, str]:
    """Return the one-line description of each packaged recipe."""
    from toxoid.config.yaml_files import parse_yaml

    found = {}
    for name, entry in packaged_recipes().items():
        data = parse_yaml(entry.read_text("utf-8"), source=name)
        found[name] = " ".join(str(data.get("description", "")).split())
    return found


def launcher_descriptions() -> dict[str, str]:
    """Return the one-line description of each packaged launcher: its first line, a comment."""
    entries = packaged_launchers().items()
    return {name: entry.read_text("utf-8").split("\n", 1)[0].removeprefix("# ") for name, entry in entries}
