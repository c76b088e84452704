"""Settings of a recipe by short names: the options of the command line and the arguments of the Python functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from toxoid.config.recipe import CourseCorrectionSection, Recipe, with_overrides
from toxoid.errors import UsageError, did_you_mean


class ModelSettings(TypedDict, total=False):
    """How a model is loaded."""

    revision: str
    """Revision of a Hub model."""
    adapter: str
    """A PEFT adapter to put on the model."""
    chat_template: str
    """A Jinja file, for a tokenizer without a chat template."""
    trust_remote_code: bool
    """Run code that comes with the model."""
    dtype: str
    """Of the weights in memory: ``auto``, ``float32`` or ``bfloat16``."""
    endpoint: str
    """Base URL of an OpenAI-compatible server; the model is then its name there."""
    shield: str
    """A shield to put before the model; in an audit, not in a treatment."""


class Settings(ModelSettings, total=False):
    """What a run can be told without a recipe of its own."""

    requests: str
    """Harmful requests: a data set's name or a file."""
    benign: str
    """Benign requests."""
    contentious: str
    """Requests that sound harmful and are not."""
    limit: int
    """At most this many requests of each set."""
    judge: str
    """As for ``--judge``: ``auto``, ``refusal``, ``llm``, a folder, a plug-in, ...; ``+`` joins several."""
    judge_model: str
    """What the ``llm`` judge asks."""
    judge_endpoint: str
    """Its server."""
    tasks: list[str]
    """Only these audit tasks."""
    samples: int
    """Replies per item."""
    temperature: float
    """Of the sampling; 0 is greedy."""
    max_tokens: int
    """Tokens per reply."""
    guided: bool
    """Ask under the safe system prompt."""
    seed: int
    """Of everything random."""


_PLACES = {
    "revision": "model.revision",
    "adapter": "model.adapter",
    "chat_template": "model.chat_template",
    "trust_remote_code": "model.trust_remote_code",
    "dtype": "model.dtype",
    "endpoint": "model.endpoint",
    "shield": "model.shield",
    "requests": "data.sets.harmful",
    "benign": "data.sets.benign",
    "contentious": "data.sets.contentious",
    "limit": "data.limit",
    "judge": "judge.name",
    "judge_model": "judge.model",
    "judge_endpoint": "judge.endpoint",
    "tasks": "audit.tasks",
    "samples": "audit.samples",
    "temperature": "audit.sampling.temperature",
    "max_tokens": "audit.sampling.max_tokens",
    "guided": "audit.guided",
    "seed": "seed",
}
SHORTCUTS = frozenset(_PLACES)
"""The names of :class:`Settings`."""
OWN_SETS = ("requests", "benign", "contentious")
"""Those that bring request sets of one's own."""

_TASKS_OF_SET = {
    "harmful": ("harmfulness", "jailbreak", "prefill"),
    "benign": ("helpfulness", "hijacking"),
    "contentious": ("over-refusal",),
}


def with_settings(
    recipe: Recipe,
    settings: Settings,
    *,
    model: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return the recipe with what was said in short, and with single values beside.

    Giving request sets of one's own replaces the recipe's sets: tasks without requests are left out.

    Args:
        recipe: Reduced to the arms that were asked for: what an arm left out would need is no one's concern.
        settings: By their short names.
        model: The model's source; ``None`` leaves the recipe's.
        overrides: As in :func:`toxoid.config.recipe.with_overrides`; they go before the settings.

    Raises:
        UsageError: A name or value is wrong, or an arm would not train on the sets that were given; the text names it.
    """
    for name in settings.keys() - SHORTCUTS:
        raise UsageError(
            f'"{name}" is no setting.{did_you_mean(name, SHORTCUTS)} Known: {", ".join(_PLACES)}; any other value '
            "of a recipe goes by its dotted place"
        )
    values: dict[str, Any] = {_PLACES[name]: value for name, value in settings.items()}
    if model is not None:
        values["model.source"] = model
    if settings.get("temperature") == 0 and "samples" not in settings:
        values["audit.samples"] = 1  # greedy replies to one item are all the same
    own_sets = any(name in settings for name in OWN_SETS)
    if own_sets:
        values = _own_sets(values, contentious=recipe.data.sets.get("contentious") in recipe.train.benign)
    resolved = with_overrides(recipe, {**values, **(overrides or {})})
    _refuse_other_arms(recipe, resolved)
    if own_sets:
        _refuse_sets_of_arms(resolved)
    return resolved


def _own_sets(values: dict[str, Any], *, contentious: bool) -> dict[str, Any]:
    """Replace the recipe's data by the user's sets: no lab set may stay among them.

    Args:
        values: Settings by their place in a recipe.
        contentious: Whether the recipe trains on its contentious requests too.
    """
    prefix = "data.sets."
    sets = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
    rest = {key: value for key, value in values.items() if not key.startswith(prefix)}
    tasks = [task for role in sets for task in _TASKS_OF_SET[role]]
    general = ("benign", "contentious") if contentious else ("benign",)
    return {
        "data.sets": sets,
        "audit.tasks": tasks,
        "audit.attacks": {},
        # Lengths and limit suit the recipe's own replies; C2-Eval's are for any.
        "audit.course_correction.lengths": list(CourseCorrectionSection().lengths),
        "audit.course_correction.limit": None,
        "train.harmful": [sets["harmful"]] if "harmful" in sets else [],
        "train.benign": [sets[role] for role in general if role in sets],
        **rest,
    }


def _refuse_other_arms(recipe: Recipe, resolved: Recipe) -> None:
    """Refuse settings that change which arms there are: those were chosen before."""
    before, after = ([arm.name for arm in each.arms] for each in (recipe, resolved))
    if before != after:
        raise UsageError(
            f"--set makes the arms {', '.join(after) or 'none'}, where {', '.join(before) or 'none'} were chosen: "
            "choose arms with --method, or list them in a recipe file (`toxoid cp`)"
        )


def _refuse_sets_of_arms(recipe: Recipe) -> None:
    """Refuse arms that would train on sets of their own, beside those that the user gave."""
    for arm in recipe.arms:
        if arm.train is not None:
            raise UsageError(
                f'arm "{arm.name}" trains on sets of its own ({", ".join(arm.train.harmful)}), not on those given '
                "with --requests, --benign or --contentious: choose other arms with --method, or give train in a "
                "recipe file (`toxoid cp`)"
            )
