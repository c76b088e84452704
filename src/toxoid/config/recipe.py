"""The recipe: everything a run does, as one checked value.

``python -m toxoid.config.recipe > docs/recipe.schema.json`` writes its JSON schema.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import field_validator, model_validator

from toxoid.config.loading import Section, dump_yaml, parse_yaml, validate, yaml_lines
from toxoid.config.overrides import parse_overrides, put
from toxoid.config.packaged import packaged_recipe, packaged_recipes
from toxoid.config.sections import (
    BASE,
    ArmSection,
    AuditSection,
    BudgetSection,
    CapabilitySection,
    ContrastSection,
    CourseCorrectionSection,
    DataSection,
    JudgeSection,
    ModelSection,
    ReportSection,
    SamplingSection,
    StatisticsSection,
    Text,
    TrainingSection,
    TrainSection,
    Whole,
    safe_name,
    unique,
)
from toxoid.config.yaml_files import read_text
from toxoid.errors import UsageError, did_you_mean

__all__ = [
    "BASE",
    "ArmSection",
    "AuditSection",
    "BudgetSection",
    "CapabilitySection",
    "ContrastSection",
    "CourseCorrectionSection",
    "DataSection",
    "JudgeSection",
    "ModelSection",
    "Recipe",
    "ReportSection",
    "SamplingSection",
    "StatisticsSection",
    "TrainSection",
    "TrainingSection",
    "distilled",
    "load_recipe",
    "only_arms",
    "packaged_recipes",
    "parse_overrides",
    "recipe_schema",
    "shielded",
    "single_arm",
    "to_yaml",
    "with_overrides",
    "without_arms",
]


_EARLIER = ("match_steps_of", "artifact_of", "shield_of")
"""What an arm may name an earlier arm for."""


class Recipe(Section):
    """What a run does: audit the model, treat it by each arm, audit again, compare."""

    name: Text = "custom"
    """Names the run."""
    description: str = ""
    """For people."""
    seed: Whole = 0
    """Of everything random."""
    model: ModelSection = ModelSection()
    judge: JudgeSection = JudgeSection()
    data: DataSection = DataSection()
    audit: AuditSection = AuditSection()
    capability: CapabilitySection = CapabilitySection()
    budget: BudgetSection = BudgetSection()
    train: TrainSection = TrainSection()
    training: TrainingSection = TrainingSection()
    arms: tuple[ArmSection, ...] = ()
    """The treatments, in order; the first one is the headline."""
    contrasts: tuple[ContrastSection, ...] = ()
    """Comparisons beside those of each arm with the base."""
    statistics: StatisticsSection = StatisticsSection()
    report: ReportSection = ReportSection()

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        return safe_name(name)

    @field_validator("arms")
    @classmethod
    def _distinct_arms(cls, arms: tuple[ArmSection, ...]) -> tuple[ArmSection, ...]:
        unique(tuple(arm.name for arm in arms), "arm")
        return arms

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        _check_earlier(self.arms)
        systems = (BASE, *(arm.name for arm in self.arms))
        for index, contrast in enumerate(self.contrasts):
            for key in ("before", "after"):
                _known(getattr(contrast, key), systems, f"contrasts[{index}].{key}", "arm")
            if contrast.before == contrast.after:
                raise ValueError(
                    f'contrasts[{index}] compares "{contrast.before}" with itself: name two systems'
                )
        if self.model.shield and self.arms:
            raise ValueError(
                "model.shield puts a shield before an audited model, and this recipe has arms: give the shield to an "
                "arm (method: contrastive-decoding, options: {shield: FOLDER}), or audit without arms"
            )
        for system in self.capability.lm_eval:
            _known(system, systems, "capability.lm_eval", "arm")
        chosen = [(f"arms[{index}].tasks", arm.tasks) for index, arm in enumerate(self.arms)]
        chosen += [(f"contrasts[{index}].tasks", part.tasks) for index, part in enumerate(self.contrasts)]
        for where, tasks in chosen:
            for task in tasks or ():
                _known(task, self.audit.tasks, where, "task of the audit")
        return self


def _check_earlier(arms: tuple[ArmSection, ...]) -> None:
    """Check that arms refer to earlier ones: a later one has left nothing yet."""
    for index, arm in enumerate(arms):
        for key in _EARLIER:
            named = getattr(arm, key)
            if named is None:
                continue
            where = f"arms[{index}].{key}"
            _known(named, [other.name for other in arms if other is not arm], where, "other arm")
            if named not in [earlier.name for earlier in arms[:index]]:
                raise ValueError(f'{where}: "{named}" comes later: list that arm first')


def _known(name: str, known: Iterable[str], where: str, what: str) -> None:
    names = list(known)
    if name not in names:
        raise ValueError(
            f'{where} names "{name}", which is no {what}.{did_you_mean(name, names)} '
            f"Known: {', '.join(names) or 'none'}"
        )


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Return a packaged recipe by name, or a recipe file (its name ends in .yaml or .yml, or has a slash).

    Raises:
        UsageError: There is no such recipe, or it is wrong; the text names file, line and key.
    """
    given = str(name_or_path)
    if given.endswith((".yaml", ".yml")) or "/" in given or isinstance(name_or_path, Path):
        return _parse(read_text(Path(given).expanduser()), given)
    return _parse(packaged_recipe(given).read_text("utf-8"), f"recipe {given}")


def _parse(text: str, source: str) -> Recipe:
    data = parse_yaml(text, source=source)
    return validate(Recipe, data, source=source, lines=yaml_lines(text))


def to_yaml(recipe: Recipe) -> str:
    """Return a recipe as YAML with every value spelt out; read back, it is an equal recipe."""
    return dump_yaml(recipe.model_dump(mode="json"))


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of recipe files, for editors."""
    schema = Recipe.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def with_overrides(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """Return the recipe with values replaced, checked as a whole again.

    Args:
        recipe: The recipe; it does not change.
        overrides: Dotted place to value, e.g. ``{"data.sets.harmful": "x.csv"}``. Parts of a list are found
            by index or by their name: ``arms.sft.training.epochs``.

    Raises:
        UsageError: No such place, or the value is wrong there.
    """
    data = recipe.model_dump(mode="json")
    for key, value in overrides.items():
        put(data, key, value)
    return validate(Recipe, data, source="settings")


def only_arms(recipe: Recipe, names: Iterable[str]) -> Recipe:
    """Return the recipe with the named arms, and those earlier ones that they need, in the recipe's order.

    Raises:
        UsageError: An arm is unknown.
    """
    arms = {arm.name: arm for arm in recipe.arms}
    kept: set[str] = set()
    wanted = list(names)
    while wanted:
        name = wanted.pop()
        if name not in arms:
            raise UsageError(
                f'recipe {recipe.name} has no arm "{name}".{did_you_mean(name, arms)} '
                f"Its arms: {', '.join(arms) or 'none'}"
            )
        kept.add(name)
        needed = [getattr(arms[name], key) for key in _EARLIER]
        wanted += [other for other in needed if other is not None and other not in kept]
    systems = {BASE, *kept}
    return _checked(
        recipe,
        arms=[arm for arm in recipe.arms if arm.name in kept],
        contrasts=[part for part in recipe.contrasts if {part.before, part.after} <= systems],
    )


def single_arm(recipe: Recipe, method: str) -> Recipe:
    """Return the recipe with one arm of ``method``: its first one with a training of its own, or a plain one."""
    plain = ArmSection(name=method, method=method)
    own = (arm for arm in recipe.arms if arm.method == method and arm.artifact_of is None)
    arm = next(own, plain)
    return _checked(recipe, arms=[arm.model_copy(update={"match_steps_of": None})], contrasts=[])


def shielded(recipe: Recipe, shield: str) -> Recipe:
    """Return the recipe with one arm: the model behind a shield that exists."""
    arm = ArmSection(name="shield", method="contrastive-decoding", options={"shield": shield})
    return _checked(recipe, arms=[arm], contrasts=[])


def distilled(recipe: Recipe, shield: str, form: str) -> Recipe:
    """Return the recipe with one arm: its first that distils a shield into ``form``, or a plain one.

    Args:
        recipe: The recipe.
        shield: The folder of the shield, in place of an earlier arm's.
        form: ``lora`` or ``soft-prompt``.
    """
    plain = ArmSection(name=form, method="shield-distilled", options={"form": form})
    own = (arm for arm in recipe.arms if arm.method == plain.method and arm.artifact_of is None)
    arm = next((arm for arm in own if arm.options.get("form", "lora") == form), plain)
    changed = {"shield_of": None, "match_steps_of": None, "options": {**arm.options, "shield": shield}}
    return _checked(recipe, arms=[arm.model_copy(update=changed)], contrasts=[])


def without_arms(recipe: Recipe) -> Recipe:
    """Return the recipe as an audit alone."""
    return _checked(recipe, arms=[], contrasts=[])


def _checked(recipe: Recipe, **parts: list[Any]) -> Recipe:
    changed = {key: [part.model_dump(mode="json") for part in value] for key, value in parts.items()}
    return validate(Recipe, recipe.model_dump(mode="json") | changed, source=f"recipe {recipe.name}")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(recipe_schema(), indent=2) + "\n")
