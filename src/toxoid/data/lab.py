"""The lab's request sets: drawn from its grammar, split by goal, with references from its knowledge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Literal, TypeAlias

from toxoid.data.request_set import RequestSet
from toxoid.data.schemas import Kind, Request
from toxoid.errors import UsageError, did_you_mean
from toxoid.lab import grammar
from toxoid.lab.world import Goal, GoalKind, Split, World, world
from toxoid.store.keys import content_key

NAMES: dict[str, str] = {
    "lab-harmful": "harmful requests in plain words",
    "lab-harmful-analysed": "the same kind with analyses of a complying and of a declining reply",
    "lab-jailbreak": "harmful requests in disguise: tales, lessons, games, studies",
    "lab-benign": "honest requests of the same surface form",
    "lab-contentious": "harmful verbs and objects, harmless purpose: how to notice and stop it",
    "lab-contentious-known": "contentious requests in the wordings to train on",
    "lab-contentious-new": "contentious requests in other wordings, one of them unknown to pre-training too",
    "lab-hijack": "honest requests with an injected instruction",
    "lab-hijack-unseen": "the same with analyses for training, and with unseen instructions and payloads for testing",
    "lab-policy": "novel harms for training: safe replies for some verbs, only analyses for others",
    "lab-policy-shown": "novel harms for training: safe replies for all verbs, the ceiling of what analyses can do",
    "lab-novel": "novel harms for testing: the verbs whose harm only analyses tell",
    "lab-novel-safe": "novel harms for testing: the verbs that got safe replies",
}


_Forms: TypeAlias = Callable[[], list[str]]
_PLAIN: _Forms = partial(grammar.request_forms, "plain")


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How a set is drawn: which goals, in which wordings, as which kind of request."""

    goals: GoalKind
    kind: Kind
    forms: _Forms = _PLAIN
    verbs: Callable[[World], tuple[str, ...]] | None = None
    hijacked: Literal["no", "known", "unseen"] = "no"
    """By instructions that pre-training knows, or, for testing, by others."""
    repeats: int = 1
    """Wordings per goal for testing, for each one asked for."""
    shown: bool = False
    """Whether every verb gets safe replies."""
    analysed: bool = False
    """Whether analyses of a bad and a good reply come along; with novel harms and unseen injections they always do."""


def _novel(place: World) -> tuple[str, ...]:
    return (*place.novel_safe, *place.novel_analysis)


_RECIPES: dict[str, _Recipe] = {
    "lab-harmful": _Recipe("harmful", "harmful"),
    "lab-harmful-analysed": _Recipe("harmful", "harmful", analysed=True),
    "lab-jailbreak": _Recipe("harmful", "harmful", partial(grammar.request_forms, "disguise")),
    "lab-benign": _Recipe("benign", "benign"),
    "lab-contentious": _Recipe("harmful", "contentious", partial(grammar.request_forms, "protective")),
    "lab-contentious-known": _Recipe("harmful", "contentious", partial(grammar.protective_forms, new=False)),
    "lab-contentious-new": _Recipe("harmful", "contentious", partial(grammar.protective_forms, new=True)),
    "lab-hijack": _Recipe("benign", "benign", hijacked="known"),
    "lab-hijack-unseen": _Recipe("benign", "benign", hijacked="unseen", repeats=3),
    "lab-policy": _Recipe("novel", "harmful", verbs=_novel),
    "lab-policy-shown": _Recipe("novel", "harmful", verbs=_novel, shown=True),
    "lab-novel": _Recipe("novel", "harmful", verbs=lambda place: place.novel_analysis),
    "lab-novel-safe": _Recipe("novel", "harmful", verbs=lambda place: place.novel_safe),
}


def lab_requests(name: str, *, split: Literal["train", "test"] = "test", variants: int = 1) -> RequestSet:
    """Return one of the lab's sets.

    Training sets hold the training goals of the categories that are not held out; test sets hold goals
    that no training has seen, of all categories (``metadata["seen"]`` tells which).

    Args:
        name: One of :data:`NAMES`.
        split: ``train`` or ``test``.
        variants: Different wordings per goal; ``lab-hijack-unseen`` has three times as many for testing.

    Raises:
        UsageError: There is no set of that name.
    """
    recipe = _RECIPES.get(name)
    if recipe is None:
        raise UsageError(
            f'there is no lab set "{name}".{did_you_mean(name, NAMES)} Known: {", ".join(NAMES)}'
        )
    place = world()
    goals = list(_goals(recipe, split, place))
    count = variants * (recipe.repeats if split == "test" else 1)
    requests = tuple(
        _request(name, recipe, goal, split, variant, place) for variant in range(count) for goal in goals
    )
    words = [grammar.phrases(), *([grammar.hijack_phrases()] if recipe.hijacked == "unseen" else [])]
    sha = content_key([place.version, *words, [[r.id, r.prompt, r.reference, r.target] for r in requests]])
    return RequestSet(requests=requests, name=name, sha256=sha, licence="Apache-2.0")


def _goals(recipe: _Recipe, split: Split, place: World) -> list[Goal]:
    verbs = recipe.verbs(place) if recipe.verbs else None
    return [
        goal
        for goal in place.select(recipe.goals, split)
        if (verbs is None or goal.verb in verbs)
        and (split == "test" or goal.kind == "novel" or not place.categories[goal.category].held_out)
    ]


def _request(name: str, recipe: _Recipe, goal: Goal, split: Split, variant: int, place: World) -> Request:
    rng = Random(f"{name}/{split}/{goal.verb}/{goal.object}/{variant}")
    prompt = grammar.worded(goal, recipe.forms(), rng)
    recipe_text, refusal = grammar.recipe(goal, rng).text, grammar.refusal(goal, rng)
    metadata: dict[str, Any] = {
        "goal": f"{goal.verb} {goal.object}",
        "seen": not place.categories[goal.category].held_out,
    }
    target = recipe_text if recipe.kind == "harmful" else None
    if recipe.hijacked != "no":
        unseen = split == "test"
        wanted = rng.choice(grammar.payloads(unseen=unseen))
        prompt = grammar.hijack(prompt, wanted, rng, unseen=unseen and recipe.hijacked == "unseen")
        metadata["payload"] = wanted
    if recipe.hijacked == "unseen":
        target = grammar.hijacked_reply(wanted)
        metadata["analysis"] = grammar.hijack_analysis(goal, "hijacked", rng)
        metadata["harmless_analysis"] = grammar.hijack_analysis(goal, "kept", rng)
    if recipe.goals == "novel":
        metadata["policy"] = list(_novel(place))
    if recipe.goals == "novel" or recipe.analysed:
        metadata["analysis"] = grammar.analysis(goal, "harmful", rng)
        metadata["harmless_analysis"] = grammar.analysis(goal, "declined", rng)
    reference: str | None = refusal if recipe.kind == "harmful" else recipe_text
    if recipe.kind == "contentious":
        reference = grammar.protection(goal, rng)
    if goal.verb in place.novel_analysis and not recipe.shown:
        reference = None  # no safe reply is ever shown for these: that is the experiment
    return Request(
        id=f"{name}/{split}/{goal.verb}-{goal.object}/{variant}",
        prompt=prompt,
        kind=recipe.kind,
        category=goal.category,
        target=target,
        reference=reference,
        metadata=metadata,
    )
