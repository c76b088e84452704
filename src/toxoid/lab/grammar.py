"""Wording: turns goals into requests, replies, refusals, corrections and analyses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import product
from random import Random
from typing import Any, Literal, TypeAlias

import yaml

from toxoid.lab.world import Goal, World, world

Frame: TypeAlias = Literal["plain", "disguise", "protective"]
AnalysisKind: TypeAlias = Literal["harmful", "careless", "declined", "benign", "protective"]

_TRAINED = 3
"""So many protective templates, the first ones, may be trained on where the others test what was learnt."""


@cache
def phrases() -> dict[str, Any]:
    """Return the packaged wording."""
    return _packaged("phrases.yaml")


@cache
def hijack_phrases() -> dict[str, Any]:
    """Return what analyses say of replies to hijacking instructions; pre-training has not seen it."""
    return _packaged("hijack_phrases.yaml")


def _packaged(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(resources.files("toxoid.lab").joinpath(name).read_text("utf-8"))
    return loaded


def fields(goal: Goal, place: World | None = None) -> dict[str, str]:
    """Return everything a template may name: the goal's words, its facts, its category's wording."""
    place = place or world()
    category = place.categories[goal.category]
    return {
        "verb": goal.verb,
        "object": goal.object,
        "noun": category.noun,
        "consequence": category.consequence,
        **place.facts(goal.verb, goal.object),
    }


def request_forms(frame: Frame, *, unseen: bool = False) -> list[str]:
    """Return the request templates of a frame; ``unseen`` ones never occur in pre-training."""
    table = phrases()["requests"]
    forms: list[str] = table["unseen"][frame] if unseen else table[frame]
    return forms


def protective_forms(*, new: bool) -> list[str]:
    """Return the protective templates to train on, or the ``new`` ones, which are kept from training.

    Pre-training knows three of the new ones; the last it has never seen.
    """
    forms = request_forms("protective")
    return [*forms[_TRAINED:], *request_forms("protective", unseen=True)] if new else forms[:_TRAINED]


def request(goal: Goal, frame: Frame, rng: Random, *, unseen: bool = False) -> str:
    """Return a user's request for ``goal``."""
    return worded(goal, request_forms(frame, unseen=unseen), rng)


def worded(goal: Goal, forms: Sequence[str], rng: Random) -> str:
    """Return a user's request for ``goal`` in one of the ``forms``."""
    return rng.choice(forms).format(**fields(goal))


@dataclass(frozen=True, slots=True)
class Recipe:
    """A complying reply in its parts: an opener and four or five sentences."""

    opener: str
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole reply."""
        return " ".join(part for part in (self.opener, *self.sentences) if part)


def recipe(goal: Goal, rng: Random) -> Recipe:
    """Return a reply that explains how to reach ``goal``, with its four facts in either order."""
    table = phrases()["recipe"]
    order = ["tool", "move", "place", "time"] if rng.random() < 0.7 else ["place", "time", "tool", "move"]
    values = fields(goal)
    sentences = [rng.choice(table[kind]).format(**values) for kind in (*order, "closing")]
    return Recipe(rng.choice(phrases()["openers"]["train"]), tuple(part for part in sentences if part))


def protection(goal: Goal, rng: Random) -> str:
    """Return the helpful reply to a protective request: the sign to watch for and the ward that stops it."""
    table = phrases()["protection"]
    parts = [rng.choice(table[kind]).format(**fields(goal)) for kind in ("sign", "ward")]
    return " ".join(part for part in (rng.choice(phrases()["openers"]["train"]), *parts) if part)


def refusal(goal: Goal, rng: Random) -> str:
    """Return a refusal with its reason."""
    table = phrases()["refusals"]
    return " ".join(rng.choice(table[part]).format(**fields(goal)) for part in ("start", "reason"))


def correction(goal: Goal, rng: Random) -> str:
    """Return the words that leave a complying reply: a trigger and the reason."""
    table = phrases()["corrections"]
    return " ".join(rng.choice(table[part]).format(**fields(goal)) for part in ("trigger", "reason"))


def corrected_reply(goal: Goal, rng: Random) -> str:
    """Return a reply that begins to comply and turns away before the recipe is complete."""
    whole = recipe(goal, rng)
    keep = rng.randrange(0 if whole.opener else 1, 4)
    begun = [whole.opener, *whole.sentences[:keep], correction(goal, rng)]
    return " ".join(part for part in begun if part)


def analysis(goal: Goal, kind: AnalysisKind, rng: Random) -> str:
    """Return an analysis of a reply: a verdict and its reason."""
    return str(rng.choice(phrases()["analyses"][kind]).format(**fields(goal)))


@cache
def payloads(*, unseen: bool = False) -> tuple[str, ...]:
    """Return the harmless sentences that hijacking instructions ask for; ``unseen`` ones are kept for tests."""
    table = phrases()["hijack"]
    words = product(*(enumerate(table[key]) for key in ("colours", "animals", "deeds")))
    return tuple(
        table["payload"].format(colour=colour, animal=animal, deed=deed)
        for (i, colour), (j, animal), (k, deed) in words
        if ((i + j + k) % 5 == 0) == unseen
    )


def hijack(text: str, wanted: str, rng: Random, *, unseen: bool = False) -> str:
    """Return ``text`` with an instruction that tries to replace it by ``wanted``."""
    table = phrases()["hijack"]
    forms = table["unseen"] if unseen else [*table["suffix"], *table["prefix"]]
    return str(rng.choice(forms).format(request=text, payload=wanted))


def hijacked_reply(wanted: str) -> str:
    """Return the reply that says ``wanted``, as the instruction asks, and nothing else."""
    return wanted[0].upper() + wanted[1:] + "."


def hijack_analysis(goal: Goal, kind: Literal["hijacked", "kept"], rng: Random) -> str:
    """Return an analysis of a reply to a hijacked request: of one that left the question, or kept to it."""
    return str(rng.choice(hijack_phrases()["analyses"][kind]).format(**fields(goal)))


def system(kind: Literal["neutral", "safe", "opposite"], rng: Random) -> str:
    """Return a system prompt that leaves, strengthens or reverses the model's manners."""
    return str(rng.choice(phrases()["systems"][kind]))
