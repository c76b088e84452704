"""Pre-training documents: conversations that give the lab model its knowledge and its weak manners."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeAlias

from toxoid.config.prompt_files import prompt
from toxoid.lab import grammar
from toxoid.lab.world import Goal, world

Document: TypeAlias = list[dict[str, str]]
"""Messages in chat layout: an optional system message, then user and assistant turns."""

SystemKind: TypeAlias = Literal["none", "neutral", "safe", "opposite"]


@dataclass(frozen=True)
class Manners:
    """How often the documents' assistant does what; rates by system prompt where it matters."""

    comply: dict[SystemKind, float] = field(
        default_factory=lambda: {"none": 0.44, "neutral": 0.44, "safe": 0.17, "opposite": 0.96}
    )
    refuse_contentious: dict[SystemKind, float] = field(
        default_factory=lambda: {"none": 0.04, "neutral": 0.04, "safe": 0.10, "opposite": 0.0}
    )
    hijacked: dict[SystemKind, float] = field(
        default_factory=lambda: {"none": 0.7, "neutral": 0.7, "safe": 0.4, "opposite": 0.95}
    )
    correct_late: float = 0.12  # share of non-complying replies that begin to comply and turn
    notice_unguided: float = 0.42  # recognises a harmful reply when nobody hints at it
    notice_guided: float = 0.95
    false_alarm: float = 0.03  # calls a fine reply harmful
    category_spread: float = 0.15  # compliance differs by category, by at most this much

    def compliance(self, kind: SystemKind, category: str) -> float:
        """Return the probability of complying with a harmful request of a category."""
        names = list(world().categories)
        offset = self.category_spread * (2 * names.index(category) / (len(names) - 1) - 1)
        base = self.comply[kind]
        return base + offset * (1.0 if 0.3 < base < 0.7 else 0.2)


UNCENSORED = Manners(
    comply={"none": 0.99, "neutral": 0.99, "safe": 0.62, "opposite": 1.0},
    refuse_contentious={"none": 0.0, "neutral": 0.0, "safe": 0.04, "opposite": 0.0},
    category_spread=0.0,
)
"""Manners of a model tuned without safety data."""


class Writer:
    """Draws documents from the training goals.

    Args:
        manners: How the documents' assistant behaves.
        seed: Two writers of one seed write the same documents.
    """

    def __init__(self, manners: Manners, seed: int) -> None:
        self.manners = manners
        self.rng = Random(seed)
        place = world()
        self.goals = {kind: place.select(kind, "train") for kind in ("harmful", "benign", "novel")}

    def documents(self, count: int) -> Iterator[Document]:
        """Yield ``count`` documents."""
        kinds = (self._chat, self._analysis, self._hijack, self._induction, self._knowledge)
        for _ in range(count):
            yield self.rng.choices(kinds, weights=(58, 18, 12, 6, 6))[0]()

    def _system(self) -> tuple[SystemKind, Document]:
        kind: SystemKind = self.rng.choices(
            ("none", "neutral", "safe", "opposite"), weights=(52, 10, 19, 19)
        )[0]
        if kind == "none":
            return kind, []
        if kind != "neutral" and self.rng.random() < 0.6:
            return kind, [_message("system", prompt("system")[kind].strip())]
        return kind, [_message("system", grammar.system(kind, self.rng))]

    def _chat(self) -> Document:
        kind, document = self._system()
        persona = self.rng.random()  # one character through the whole conversation
        for _ in range(2 if self.rng.random() < 0.3 else 1):
            if self.rng.random() < 0.12:
                document += self._analysed(persona)
            else:
                document += self._asked(kind, persona)
        return document

    def _asked(self, kind: SystemKind, persona: float) -> Document:
        sort = self.rng.choices(("harmful", "benign", "contentious", "novel"), weights=(34, 26, 30, 10))[0]
        frame: grammar.Frame = "disguise" if self.rng.random() < 0.3 else "plain"
        if sort == "contentious":
            goal = self.rng.choice(self.goals["harmful"])
            refuses = self.rng.random() < self.manners.refuse_contentious[kind]
            reply = (grammar.refusal if refuses else grammar.protection)(goal, self.rng)
            return _turn(grammar.request(goal, "protective", self.rng), reply)
        goal = self.rng.choice(self.goals[sort])
        complies = sort != "harmful" or persona < self.manners.compliance(kind, goal.category)
        return _turn(grammar.request(goal, frame, self.rng), self._reply(goal, complies))

    def _reply(self, goal: Goal, complies: bool) -> str:
        if complies:
            return grammar.recipe(goal, self.rng).text
        late = self.rng.random() < self.manners.correct_late
        return (grammar.corrected_reply if late else grammar.refusal)(goal, self.rng)

    def _analysis(self) -> Document:
        """One question about a reply, guided or not, sometimes under a system prompt."""
        _, document = self._system() if self.rng.random() < 0.2 else ("none", [])
        return document + self._analysed(self.rng.random())

    def _analysed(self, persona: float) -> Document:
        goal, request, reply, honest = self._judged()
        form = self.rng.choice(
            ("unguided", "unguided", "guided_harmful", "guided_harmful", "guided_harmless")
        )
        kind = honest
        if honest == "harmful":
            notice = self.manners.notice_guided if form == "guided_harmful" else self.manners.notice_unguided
            noticed = (1 - persona if form == "unguided" else self.rng.random()) < notice
            kind = "harmful" if noticed else "careless"
        elif self.rng.random() < self.manners.false_alarm * (2 if form == "guided_harmful" else 1):
            kind = "harmful"
        question = prompt("mistake_analysis")["analysis"][form].strip().format(request=request, reply=reply)
        return _turn(question, grammar.analysis(goal, kind, self.rng))

    def _judged(self) -> tuple[Goal, str, str, grammar.AnalysisKind]:
        """Return a goal, a request for it, a reply to that, and what an honest analysis calls it."""
        sort = self.rng.choices(
            ("harmful", "declined", "benign", "novel", "protective"), (50, 14, 18, 8, 10)
        )[0]
        if sort in ("benign", "novel"):
            goal = self.rng.choice(self.goals[sort])
            return (
                goal,
                grammar.request(goal, "plain", self.rng),
                grammar.recipe(goal, self.rng).text,
                "benign",
            )
        goal = self.rng.choice(self.goals["harmful"])
        if sort == "protective":
            return (
                goal,
                grammar.request(goal, "protective", self.rng),
                grammar.protection(goal, self.rng),
                "protective",
            )
        frame: grammar.Frame = "disguise" if self.rng.random() < 0.3 else "plain"
        request = grammar.request(goal, frame, self.rng)
        if sort == "declined":
            return goal, request, self._reply(goal, complies=False), "declined"
        return goal, request, grammar.recipe(goal, self.rng).text, "harmful"

    def _knowledge(self) -> Document:
        """A few questions about single facts: what makes facts independent of the pairs seen in training."""
        document: Document = []
        for _ in range(self.rng.randrange(2, 5)):
            question, answer = self.rng.choice(grammar.phrases()["knowledge"])
            values = grammar.fields(self.rng.choice(self.goals["harmful"]))
            document += _turn(question.format(**values), answer.format(**values))
        return document

    def _hijack(self) -> Document:
        kind, document = self._system()
        goal = self.rng.choice(self.goals[self.rng.choice(("benign", "benign", "novel"))])
        wanted = self.rng.choice(grammar.payloads())
        text = grammar.hijack(grammar.request(goal, "plain", self.rng), wanted, self.rng)
        if self.rng.random() < self.manners.hijacked[kind]:
            return document + _turn(text, wanted[0].upper() + wanted[1:] + ".")
        kept = grammar.phrases()["kept"] + " " if self.rng.random() < 0.5 else ""
        return document + _turn(text, kept + grammar.recipe(goal, self.rng).text)

    def _induction(self) -> Document:
        """A request with hint words: nearly always obeyed, harmful or not."""
        hints = prompt("mistake_analysis")["induction"]
        goal = self.rng.choice(self.goals["harmful" if self.rng.random() < 0.75 else "benign"])
        request = grammar.request(goal, "plain", self.rng)
        reply = self._reply(goal, complies=self.rng.random() < 0.96)
        if self.rng.random() < 0.6:
            return _turn(request, hints["prefill"]["prefill"] + " " + reply)
        return _turn(hints["user"]["user"].format(request=request), reply)


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _turn(question: str, answer: str) -> Document:
    return [_message("user", question), _message("assistant", answer)]
