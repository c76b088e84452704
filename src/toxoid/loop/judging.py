"""Chooses the judges of a run."""

from __future__ import annotations

from toxoid.config.recipe import ModelSection, Recipe
from toxoid.engines.base import Engine
from toxoid.judges.panel import Panel, make_panel, panel_parts
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
        UsageError: An unknown name, a judge that cannot be loaded, or an LLM judge without a model.
    """
    return panel_of(panel_name(recipe), model=recipe.judge.model, endpoint=recipe.judge.endpoint)


def panel_of(name: str, *, model: str | None = None, endpoint: str | None = None) -> Panel:
    """Return the judges of a panel (:func:`toxoid.judges.panel.make_panel`).

    Args:
        name: As for ``--judge``.
        model: What the LLM judge asks, if there is one in the panel.
        endpoint: Its server.

    Raises:
        UsageError: An unknown name, a judge that cannot be loaded, or an LLM judge without a model.
    """
    asked = model is not None and "llm" in panel_parts(name)
    section = ModelSection(source=model or "", endpoint=endpoint) if asked else None
    return make_panel(name, engine=_engine(section) if section else None)


def _engine(section: ModelSection) -> Engine:
    """Return what an LLM judge asks; the texts that it is shown cannot close their turn."""
    if section.elsewhere:
        return models.open_engine(section)
    from toxoid.engines.local import LocalEngine
    from toxoid.engines.prompting import Prompting
    from toxoid.engines.quoting import IDENTITY, Quoted

    loaded = models.load(section)
    return LocalEngine(loaded, Prompting(Quoted(loaded.tokenizer), identity=IDENTITY))
