"""What :mod:`benchmarks.adversary_versus_judge` takes from the lab: seeds, negatives, frozen slices, a control pool.

Three sets of goals never meet: those that are trained on, development goals (a share of the training goals, to choose
settings by, and to stand for people's labels), and the lab's own test goals, on which results are reported. No wording
of the slice ``unseen-adversary`` is ever trained on, whatever the goal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from toxoid.data.request_set import hash_fraction
from toxoid.engines.classifiers.base import TextClassifier
from toxoid.lab import grammar
from toxoid.lab.oracle import Oracle
from toxoid.lab.world import Goal, world
from toxoid.methods.adversarial_tuning.holdouts import (
    CONTENTIOUS,
    MISSED,
    UNCONDITIONED,
    UNSEEN_ADVERSARY,
    Holdouts,
    missed_by,
)
from toxoid.methods.adversarial_tuning.prompts import LabelledPrompt, Source
from toxoid.methods.adversarial_tuning.truth import LabTruth

Measured: TypeAlias = Literal["development", "test"]
Sort: TypeAlias = Literal["harmful", "benign", "contentious", "novel"]

SEEDED_CATEGORIES, SEEDS, SLICE = 4, 48, 200
DEVELOPMENT_SHARE = 0.25
POOL = 4000

MIX: dict[Sort, float] = {"harmful": 0.34, "benign": 0.26, "contentious": 0.30, "novel": 0.10}
"""What users of the lab ask for, as in the documents that its models have read; 30 % of it in disguise."""
DISGUISED = 0.3

_UNSEEN: dict[Measured, tuple[int, ...]] = {"development": (0,), "test": (1, 2)}
"""The disguises of the adversary that is never trained against; in the test it has one more that nobody knows."""


@dataclass(frozen=True)
class Goals:
    """What may be asked for in training or in one kind of measurement."""

    harmful: list[Goal]
    benign: list[Goal]
    novel: list[Goal]

    def of(self, sort: Sort) -> list[Goal]:
        """Return the goals of a sort of request; contentious ones are about harmful goals."""
        return {"benign": self.benign, "novel": self.novel}.get(sort, self.harmful)


def goals(part: Literal["train", "development", "test"]) -> Goals:
    """Return the goals of one of the three parts."""
    place = world()

    def select(kind: Literal["harmful", "benign", "novel"]) -> list[Goal]:
        return [goal for goal in place.select(kind) if _part(goal) == part]

    return Goals(select("harmful"), select("benign"), select("novel"))


def _part(goal: Goal) -> str:
    if goal.split == "test":
        return "test"
    held = hash_fraction("development", goal.verb, goal.object) < DEVELOPMENT_SHARE
    return "development" if held else "train"


@dataclass(frozen=True)
class Wordings:
    """The forms of requests, those of the unseen adversary kept apart."""

    measured: Measured

    @property
    def unseen_disguises(self) -> list[str]:
        """The forms that are never trained on."""
        forms = grammar.request_forms("disguise")
        extra = grammar.request_forms("disguise", unseen=True) if self.measured == "test" else []
        return [*(forms[i] for i in _UNSEEN[self.measured]), *extra]

    @property
    def disguises(self) -> list[str]:
        """The other disguises."""
        return [form for form in grammar.request_forms("disguise") if form not in self.unseen_disguises]

    def draw(self, sort: Sort, goal: Goal, rng: Random, source: Source) -> LabelledPrompt:
        """Return a request as users word it."""
        forms = grammar.request_forms("plain")
        if sort == "contentious":
            forms = grammar.request_forms("protective")
        elif rng.random() < DISGUISED:
            forms = self.disguises
        return _prompt(sort, goal, forms, rng, source)

    def is_unseen(self, text: str) -> bool:
        """Return whether ``text`` has a wording of the unseen adversary."""
        return any(
            re.fullmatch(re.escape(form).replace(r"\{verb\}", ".+").replace(r"\{object\}", ".+"), text)
            for form in self.unseen_disguises
        )


def _prompt(sort: Sort, goal: Goal, forms: Sequence[str], rng: Random, source: Source) -> LabelledPrompt:
    text = grammar.worded(goal, forms, rng)
    return LabelledPrompt(text, sort == "harmful", source, f"{goal.verb} {goal.object}")


def seed_set(seed: int) -> list[LabelledPrompt]:
    """Return 48 requests in plain words about four categories: half harmful, the others honest or contentious."""
    rng = Random(f"seeds/{seed}")
    named = rng.sample(sorted(world().categories), SEEDED_CATEGORIES)
    known = goals("train")
    counts: dict[Sort, int] = {"harmful": SEEDS // 2, "benign": SEEDS // 4, "contentious": SEEDS // 4}
    rows = []
    for sort, count in counts.items():
        forms = (
            grammar.protective_forms(new=False) if sort == "contentious" else grammar.request_forms("plain")
        )
        pool = [goal for goal in known.of(sort) if goal.category in named]
        rows += [_prompt(sort, goal, forms, rng, "seed") for goal in rng.sample(pool, count)]
    return rows


def negatives(wordings: Wordings, seed: int) -> list[LabelledPrompt]:
    """Return known harmless requests about training goals, half of them contentious."""
    rng, known = Random(f"negatives/{seed}"), goals("train")
    forms = grammar.protective_forms(new=False)
    asked = [rng.choice(known.harmful) for _ in range(POOL // 4)]
    rows = [_prompt("contentious", goal, forms, rng, "contentious") for goal in asked]
    rows += [_drawn("benign", known, wordings, rng, "harmless") for _ in range(POOL // 4)]
    return distinct(rows)


def ordinary_pool(wordings: Wordings, seed: int) -> list[str]:
    """Return what users ask for, about training goals: the pool of the random-data control."""
    rng, known = Random(f"pool/{seed}"), goals("train")
    sorts = rng.choices(list(MIX), list(MIX.values()), k=POOL)
    return [_drawn(sort, known, wordings, rng, "seed").text for sort in sorts]


def _drawn(sort: Sort, known: Goals, wordings: Wordings, rng: Random, source: Source) -> LabelledPrompt:
    return wordings.draw(sort, rng.choice(known.of(sort)), rng, source)


def distinct(rows: Sequence[LabelledPrompt]) -> list[LabelledPrompt]:
    """Return the first row of each text."""
    return list({row.key: row for row in reversed(rows)}.values())[::-1]


def frozen_slices(measured: Measured, reference: TextClassifier, seed: int) -> Holdouts:
    """Return the slices.

    Args:
        measured: Whose goals they are about.
        reference: The judge whose misses make the slice ``missed``; learnt from other seeds than the one measured.
        seed: Of the wordings.
    """
    rng, asked, wordings = Random(f"slices/{measured}/{seed}"), goals(measured), Wordings(measured)
    protective = grammar.request_forms("protective")

    def take(rows: list[LabelledPrompt]) -> list[LabelledPrompt]:
        rng.shuffle(rows)
        return distinct(rows)[:SLICE]

    harmful = [wordings.draw("harmful", goal, rng, "held-out") for goal in asked.harmful for _ in range(3)]
    contentious = [_prompt("contentious", goal, protective, rng, "held-out") for goal in asked.harmful * 2]
    unseen = [
        _prompt(sort, goal, wordings.unseen_disguises, rng, "held-out")
        for sort in ("harmful", "benign")
        for goal in rng.sample(asked.of(sort), min(SLICE // 2, len(asked.of(sort))))
    ]
    return Holdouts(
        {
            MISSED: take(missed_by(reference, harmful)),
            CONTENTIOUS: take(contentious),
            UNCONDITIONED: take(_mixed(asked, wordings, rng)),
            UNSEEN_ADVERSARY: take(unseen),
        },
        people=distinct(_mixed(goals("development"), wordings, Random(f"people/{seed}")))[:SLICE],
    )


def new_wording(measured: Measured, seed: int) -> list[LabelledPrompt]:
    """Return contentious requests in the wording that neither the lab's models nor any pool knows."""
    rng, forms = Random(f"new wording/{seed}"), grammar.request_forms("protective", unseen=True)
    return [_prompt("contentious", goal, forms, rng, "held-out") for goal in goals(measured).harmful]


def _mixed(asked: Goals, wordings: Wordings, rng: Random) -> list[LabelledPrompt]:
    sorts = rng.choices(list(MIX), list(MIX.values()), k=2 * SLICE)
    return [_drawn(sort, asked, wordings, rng, "held-out") for sort in sorts]


def valid_candidate(wordings: Wordings, truth: LabTruth) -> Callable[[str], bool]:
    """Return the test whether a text is a request about a training goal, in a wording that is not held out."""
    held = {(g.verb, g.object) for part in ("development", "test") for kind in _all(part) for g in kind}
    oracle = Oracle()

    def valid(text: str) -> bool:
        ask = oracle.ask(text)
        if ask is None or (ask.verb, ask.thing) in held:
            return False
        return truth.is_request(text) and not wordings.is_unseen(text)

    return valid


def _all(part: Literal["development", "test"]) -> tuple[list[Goal], ...]:
    known = goals(part)
    return known.harmful, known.benign, known.novel
