"""The facts of the micro-world, its goals and how they are split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any, Literal, TypeAlias

import yaml

GoalKind: TypeAlias = Literal["harmful", "benign", "novel"]
Split: TypeAlias = Literal["train", "test"]

FACT_KINDS = ("tool", "move", "ward", "place", "time", "sign")
"""The kinds of fact; the first three belong to a verb, the last three to an object."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Something one can do in the world: a verb on an object.

    ``split`` is ``test`` for pairs that no training ever sees, pre-training included.
    """

    verb: str
    object: str
    category: str
    kind: GoalKind
    split: Split


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of forbidden work, with the honest work that is done on the same objects."""

    name: str
    noun: str
    consequence: str
    harmful_verbs: tuple[str, ...]
    benign_verbs: tuple[str, ...]
    objects: tuple[str, ...]
    held_out: bool


@dataclass(frozen=True)
class World:
    """All words and facts. ``verbs`` and ``objects`` map a word to its facts by kind."""

    categories: dict[str, Category]
    verbs: dict[str, dict[str, str]]
    objects: dict[str, dict[str, str]]
    novel_safe: tuple[str, ...]
    novel_analysis: tuple[str, ...]
    version: int

    @cached_property
    def goals(self) -> tuple[Goal, ...]:
        """Every goal, in a fixed order."""
        return (*self._paired("harmful"), *self._paired("benign"), *self._novel())

    def select(self, kind: GoalKind, split: Split | None = None) -> list[Goal]:
        """Return the goals of one kind, of one split if given."""
        return [goal for goal in self.goals if goal.kind == kind and split in (None, goal.split)]

    @cached_property
    def category_of_object(self) -> dict[str, str]:
        """Map each object to its category."""
        return {thing: category.name for category in self.categories.values() for thing in category.objects}

    @cached_property
    def category_of_verb(self) -> dict[str, str]:
        """Map each harmful verb to its category."""
        return {verb: c.name for c in self.categories.values() for verb in c.harmful_verbs}

    @cached_property
    def fact_kind(self) -> dict[str, str]:
        """Map each fact word to its kind."""
        tables = (*self.verbs.values(), *self.objects.values())
        return {word: kind for facts in tables for kind, word in facts.items()}

    def facts(self, verb: str, thing: str) -> dict[str, str]:
        """Return the facts that answer a goal, by kind."""
        return {**self.verbs[verb], **self.objects[thing]}

    def _paired(self, kind: Literal["harmful", "benign"]) -> list[Goal]:
        goals = []
        for shift, category in enumerate(self.categories.values()):
            verbs = category.harmful_verbs if kind == "harmful" else category.benign_verbs
            for i, verb in enumerate(verbs):
                for j, thing in enumerate(category.objects):
                    # A Latin square: each verb and each object keeps three of its five pairs for training.
                    split: Split = "test" if (i + 2 * j + shift) % 5 in (0, 1) else "train"
                    goals.append(Goal(verb, thing, category.name, kind, split))
        return goals

    def _novel(self) -> list[Goal]:
        objects = list(self.objects)
        goals = []
        for k, verb in enumerate((*self.novel_safe, *self.novel_analysis)):
            for step in range(20):
                thing = objects[(7 * k + 3 * step) % len(objects)]
                split: Split = "train" if step < 8 else "test"
                goals.append(Goal(verb, thing, self.category_of_object[thing], "novel", split))
        return goals


def _category(name: str, entry: dict[str, Any], held_out: list[str]) -> Category:
    return Category(
        name=name,
        noun=entry["noun"],
        consequence=entry["consequence"],
        harmful_verbs=tuple(entry["harmful_verbs"]),
        benign_verbs=tuple(entry["benign_verbs"]),
        objects=tuple(entry["objects"]),
        held_out=name in held_out,
    )


@cache
def world() -> World:
    """Return the packaged world."""
    raw = yaml.safe_load(resources.files("toxoid.lab").joinpath("world.yaml").read_text("utf-8"))
    held_out = raw["held_out_categories"]
    return World(
        categories={name: _category(name, entry, held_out) for name, entry in raw["categories"].items()},
        verbs=raw["verbs"],
        objects=raw["objects"],
        novel_safe=tuple(raw["novel"]["safe_reply_verbs"]),
        novel_analysis=tuple(raw["novel"]["analysis_only_verbs"]),
        version=raw["version"],
    )
