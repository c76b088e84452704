"""Chooses the judges of a run."""

from __future__ import annotations

from toxoid.config.recipe import ModelSection, Recipe
from toxoid.engines.base import Engine
from toxoid.judges.panel import Panel, make_panel
from toxoid.loop import models


def panel_name(recipe: Recipe) -> str:
    """Return the name of the recipe's panel; ``auto`` is the oracle for the lab's requests, the rules for others."""
    if recipe.judge.name != "auto":
        return recipe.judge.name
    lab = all(source.startswith("lab-") for source in recipe.data.sets.values())
    return "lab-oracle" if lab else "refusal"


def choose_panel(recipe: Recipe) -> Panel:
    """Return the recipe's judges.

    Raises:
        UsageError: An unknown name, or an LLM judge without a model.
    """
    name = panel_name(recipe)
    return make_panel(name, engine=_engine(recipe) if name == "llm" else None)


def _engine(recipe: Recipe) -> Engine | None:
    judge = recipe.judge
    if judge.model is None:
        return None
    section = ModelSection(source=judge.model, endpoint=judge.endpoint)
    return models.endpoint_engine(section) if judge.endpoint else models.local_engine(models.load(section))
