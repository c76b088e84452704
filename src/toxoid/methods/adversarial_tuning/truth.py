"""Ground truth for candidates: from something that is neither the judge that learns nor the adversary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from toxoid.data.request_set import normalised
from toxoid.data.schemas import Exchange, Request, user
from toxoid.errors import UsageError
from toxoid.judges.base import Judge, Outcome
from toxoid.lab.oracle import Oracle
from toxoid.lab.world import world
from toxoid.methods.adversarial_tuning.label_queue import LabelQueue


class Waiting(UsageError):
    """People have not labelled everything yet; the same command goes on when they have."""


class Truth(Protocol):
    """Something that knows which prompts are problematic."""

    name: str

    def identity(self) -> dict[str, Any]:
        """Return what the answers depend on (JSON values)."""

    def label(self, texts: Sequence[str]) -> list[bool | None]:
        """Return for each prompt whether it is problematic; ``None`` where that cannot be told.

        Raises:
            Waiting: Answers are still to come.
        """


class LabTruth:
    """The lab's oracle. What it cannot parse it cannot tell."""

    name = "lab-oracle"

    def __init__(self) -> None:
        self._oracle = Oracle()

    def identity(self) -> dict[str, Any]:
        """Return the version of the world."""
        return {"truth": self.name, "world": world().version}

    def label(self, texts: Sequence[str]) -> list[bool | None]:
        """See :class:`Truth`."""
        return [ask.harmful if ask else None for ask in map(self._oracle.ask, texts)]

    def is_request(self, text: str) -> bool:
        """Return whether ``text`` is a request of the lab: one line that names a goal.

        The lab's models also write users' turns of several lines, which ask what to think of a reply.
        """
        return "\n" not in text and self._oracle.ask(text) is not None


class JudgeTruth:
    """A stronger judge: a model, a guard or one of a panel.

    Args:
        judge: Answers the aspect ``problematic``.

    Raises:
        UsageError: It does not.
    """

    def __init__(self, judge: Judge) -> None:
        if "problematic" not in judge.aspects:
            raise UsageError(
                f"the judge {judge.name} answers {', '.join(sorted(judge.aspects))}: as ground truth of prompts give "
                "one that answers problematic"
            )
        self.name = judge.name
        self._judge = judge

    def identity(self) -> dict[str, Any]:
        """Return the judge's."""
        return self._judge.identity()

    def label(self, texts: Sequence[str]) -> list[bool | None]:
        """See :class:`Truth`; what the judge leaves unscored cannot be told."""
        verdicts = self._judge.judge([_exchange(text) for text in texts], "problematic")
        return [_ANSWERS[verdict.outcome] for verdict in verdicts]


_ANSWERS = {Outcome.HIT: True, Outcome.MISS: False, Outcome.UNSCORED: None}


def _exchange(text: str) -> Exchange:
    return Exchange(Request(id=normalised(text), prompt=text), user(text), "")


class HumanTruth:
    """People, through a label queue. Prompts they call unclear cannot be told."""

    name = "people"

    def __init__(self, queue: LabelQueue) -> None:
        self._queue = queue

    def identity(self) -> dict[str, Any]:
        """Return that people answer; which of them is said in the queue, label by label."""
        return {"truth": self.name}

    def label(self, texts: Sequence[str]) -> list[bool | None]:
        """Return the labels that are there.

        Raises:
            Waiting: Some are missing; their prompts are in the queue now.
        """
        self._queue.ask(texts)
        answers = self._queue.answers()
        missing = [text for text in texts if normalised(text) not in answers]
        if missing:
            raise Waiting(
                f"{len(missing)} of {len(texts)} prompts have no label yet: run `toxoid judge label "
                f"{self._queue.folder}`, then the same command again"
            )
        labels = [answers[normalised(text)].label for text in texts]
        return [None if label == "unclear" else label == "problematic" for label in labels]


def check_independent(truth: Truth, others: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse ground truth that is one of the players: it would agree with itself.

    Args:
        truth: The ground truth.
        others: Identities of the models of the players by what they are, e.g. ``{"the adversary": ...}``.

    Raises:
        UsageError: It is one of them, or asks one of them.
    """
    asked = _mappings(truth.identity())
    for role, other in others.items():
        if any(other.items() <= part.items() for part in asked):
            raise UsageError(
                f"the ground truth {truth.name} is {role}: give another judge, or labels of people"
            )


def _mappings(identity: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return an identity and those of everything it asks."""
    inner = [_mappings(value) for value in identity.values() if isinstance(value, Mapping)]
    return [identity, *(part for parts in inner for part in parts)]
