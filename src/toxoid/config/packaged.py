"""The recipes, launchers and task folders in the package: names, files, descriptions, without loading pydantic."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable

from toxoid.errors import UsageError, did_you_mean


def packaged_recipes() -> dict[str, Traversable]:
    """Return the packaged recipes by name, sorted."""
    return _yaml_files("recipes")


def packaged_judge_recipes() -> dict[str, Traversable]:
    """Return the packaged recipes of judges by name, sorted."""
    return _yaml_files("recipes", "judges")


def packaged_launchers() -> dict[str, Traversable]:
    """Return the packaged configurations of ``accelerate launch`` by name, sorted."""
    return _yaml_files("launchers")


def packaged_folders() -> dict[str, Traversable]:
    """Return the packaged task folders of other evaluators by name."""
    return {"lm-eval-c2": resources.files("toxoid").joinpath("audit", "lm_eval_tasks", "c2_eval")}


def _yaml_files(*place: str) -> dict[str, Traversable]:
    folder = resources.files("toxoid").joinpath(*place)
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
    """Return the one-line description of each packaged recipe, those of judges last."""
    from toxoid.config.yaml_files import parse_yaml

    found = {}
    for name, entry in (packaged_recipes() | packaged_judge_recipes()).items():
        data = parse_yaml(entry.read_text("utf-8"), source=name)
        found[name] = " ".join(str(data.get("description", "")).split())
    return found


def launcher_descriptions() -> dict[str, str]:
    """Return the one-line description of each packaged launcher: its first line, a comment."""
    entries = packaged_launchers().items()
    return {name: entry.read_text("utf-8").split("\n", 1)[0].removeprefix("# ") for name, entry in entries}
