"""What there is to choose from, by kind: built-in and from plug-ins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from toxoid.errors import UsageError, did_you_mean
from toxoid.plugins import GROUPS, Factory

_REGISTRIES = {
    "methods": ("toxoid.methods.registry",),
    "attacks": ("toxoid.attacks.registry", "toxoid.attacks.interactive_names"),
    "judges": ("toxoid.judges.registry",),
    "engines": ("toxoid.engines.registry",),
    "datasets": ("toxoid.data.lab", "toxoid.data.contrast", "toxoid.data.registry"),
}
KINDS = (*_REGISTRIES, "recipes", "launchers")


def available(kind: str) -> dict[str, str]:
    """Return name to one-line description of everything of a kind, plug-ins last.

    Args:
        kind: methods, attacks, judges, engines, datasets, recipes or launchers.

    Raises:
        UsageError: There is no such kind.
    """
    if kind not in KINDS:
        raise UsageError(f'"{kind}" is no kind.{did_you_mean(kind, KINDS)} Known: {", ".join(KINDS)}')
    if kind == "recipes":
        from toxoid.config.packaged import recipe_descriptions

        return recipe_descriptions()
    if kind == "launchers":
        from toxoid.config.packaged import launcher_descriptions

        return launcher_descriptions()
    return {**_built_in(kind), **_plugins(kind)}


def register(kind: str, name: str, factory: Factory) -> None:
    """Make something of one's own known by a name, in this process; the last one under a name counts.

    Args:
        kind: attacks, judges, engines or datasets.
        name: Letters, digits, ``-`` and ``_``.
        factory: Makes it; as an entry point of ``toxoid.<kind>`` would (``docs/plugins.md``).

    Raises:
        UsageError: There is no such kind, or the name is a built-in's or not usable.
    """
    if kind not in GROUPS:
        raise UsageError(
            f'"{kind}" is no kind of plug-in.{did_you_mean(kind, GROUPS)} Known: {", ".join(GROUPS)}'
        )
    if not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f'"{name}" cannot name a plug-in: use letters, digits, "-" and "_"')
    if _is_taken(kind, name):
        raise UsageError(f'"{name}" is built in, and cannot be replaced: choose another name')
    GROUPS[kind].registered[name] = factory


def plugins_named(settings: Any) -> dict[str, dict[str, str]]:
    """Return, by kind and name, the origin of every plug-in that plain values name: for fingerprints.

    A name counts wherever it stands, alone, before a colon or joined by ``+``.
    """
    words = set(_words(settings))
    found = {
        kind: {
            plugin.name: plugin.origin
            for plugin in group.all()
            if plugin.name in words and not _is_taken(kind, plugin.name)
        }
        for kind, group in GROUPS.items()
    }
    return {kind: named for kind, named in found.items() if named}


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        return [part.strip() for joined in value.split("+") for part in joined.split(":")]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, Sequence):
        return [word for part in value for word in _words(part)]
    return []


def _built_in(kind: str) -> dict[str, str]:
    return {name: line for module in _REGISTRIES[kind] for name, line in import_module(module).NAMES.items()}


def _is_taken(kind: str, name: str) -> bool:
    return name in {known.partition(":")[0] for known in _built_in(kind)}


def _plugins(kind: str) -> dict[str, str]:
    """Return the plug-ins; those that cannot be used say why."""
    found: dict[str, str] = {}
    group = GROUPS.get(kind)
    if group is None:
        return found
    for plugin in group.all():
        if _is_taken(kind, plugin.name):
            found[f"{plugin.name}({plugin.origin})"] = "ignored, for a built-in has its name"
        else:
            found[plugin.name] = group.describe(plugin)
    return found
