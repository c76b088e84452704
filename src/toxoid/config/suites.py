"""The suites of ``toxoid audit``: packaged recipes of several sizes, on the lab's requests or on one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toxoid.config.recipe import Recipe, load_recipe, with_overrides, without_arms
from toxoid.config.shortcuts import OWN_SETS, Settings, with_settings
from toxoid.errors import UsageError

SUITES = ("quick", "standard", "full")
"""From minutes to hours; the recipe of each is ``audit-<suite>``."""

_CAMPAIGNS = "campaigns"
"""The task whose control is the plain request, asked again."""
_INJECTIONS = ("goal_hijacking", "suffix_injection")
"""What the lab's hijack set has in it already: an instruction in the user's own voice, and one in a document."""


def load_suite(name: str) -> Recipe:
    """Return a suite's recipe.

    Raises:
        UsageError: There is no suite of that name.
    """
    return load_recipe(f"audit-{name}")


def audit_recipe(
    model: str | None,
    settings: Settings,
    *,
    suite: str | None = None,
    recipe: str | Path | Recipe | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return the recipe of an audit: a suite's or another one without its arms, with what was said beside.

    Args:
        model: Its source; ``None`` leaves the recipe's.
        settings: By their short names.
        suite: One of :data:`SUITES`.
        recipe: In place of a suite; by default ``audit``.
        overrides: Single values by dotted place.

    Raises:
        UsageError: Suite and recipe are both given, or a value is wrong.
    """
    if suite and recipe:
        name = recipe.name if isinstance(recipe, Recipe) else recipe
        raise UsageError(
            f"--suite {suite} is a recipe of its own, and --recipe {name} another: give one of them"
        )
    chosen = load_suite(suite) if suite else recipe or "audit"
    loaded = without_arms(chosen if isinstance(chosen, Recipe) else load_recipe(chosen))
    resolved = with_settings(loaded, settings, model=model, overrides=overrides)
    if suite and any(name in settings for name in OWN_SETS):
        return on_own_sets(loaded, resolved, tasks_given="tasks" in settings)
    return resolved


def on_own_sets(suite: Recipe, resolved: Recipe, *, tasks_given: bool) -> Recipe:
    """Return a suite on requests of one's own, which its attacks have still to disguise and to inject.

    Args:
        suite: As packaged.
        resolved: The same with the user's sets and settings, reduced to the tasks that these sets serve.
        tasks_given: Whether the user has named the tasks; otherwise those that the suite asks are kept.
    """
    tasks = [task for task in resolved.audit.tasks if tasks_given or task in suite.audit.tasks]
    if "harmful" in resolved.data.sets and _CAMPAIGNS in suite.audit.tasks and not tasks_given:
        tasks.append(_CAMPAIGNS)
    attacks = {
        task: list(names)
        if task == _CAMPAIGNS
        else [name for name in names if name != "direct"] or list(_INJECTIONS)
        for task, names in suite.audit.attacks.items()
        if task in tasks
    }
    chosen = {task: list(names) for task, names in resolved.audit.attacks.items()}
    return with_overrides(resolved, {"audit.tasks": tasks, "audit.attacks": attacks | chosen})
