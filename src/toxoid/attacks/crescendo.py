"""Crescendo: turn by turn from an innocent question to the request, built on the model's own answers.

Source: Russinovich, Salem and Eldan 2024, "Great, Now Write an Article About That" (arXiv 2404.01833): at most ten
turns; what the model refuses is taken back and put otherwise. All words are this project's own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from toxoid.attacks.base import asked, choose
from toxoid.attacks.course_wording import wording_for
from toxoid.attacks.interactive import Answer, Ask, Consult, Moves, WordingChoice, worded
from toxoid.attacks.lab import slots
from toxoid.attacks.wording import load_wording
from toxoid.data.schemas import Conversation, Message, Request, user

TURNS = 10
FIELDS = ("thought", "message", "stage")
"""What the attacker's answer has to hold; ``stage`` is ``approach`` for a turn that only prepares."""
SHOWN = 1000
"""Characters per turn that the attacker is shown."""
_QUOTED = 25  # words of the last answer that a template quotes
_FILE, _WRITER = "crescendo", "crescendo_attacker"


@dataclass(frozen=True, slots=True)
class Crescendo:
    """Lead a conversation to the request; a refused turn is taken back and asked in other words.

    Without an attacker the turns are templates: one section of the wording file per stage, the last one for the
    request. With an attacker it writes every turn, and says of each whether it only prepares.

    Args:
        attacker: Whether a second model writes the turns.
        turns: Questions at most, those taken back included.
        wording: Of the templates.
    """

    attacker: bool = False
    turns: int = TURNS
    wording: WordingChoice = "auto"
    name: str = "crescendo"
    reads_refusals: bool = field(default=True, init=False)

    @property
    def needs_attacker(self) -> bool:
        """Whether a second model writes the turns."""
        return self.attacker

    def identity(self) -> dict[str, Any]:
        """Return the digests of the wordings, who writes, and the number of turns."""
        files = [_WRITER] if self.attacker else [_FILE, f"{_FILE}_lab"]
        return {
            "attack": self.name,
            "wordings": [load_wording(file).sha256 for file in files],
            "wording": self.wording,
            "attacker": self.attacker,
            "turns": self.turns,
        }

    def play(self, request: Request, *, seed: int) -> Moves:
        """Ask turn after turn."""
        return self._written(request) if self.attacker else self._templates(request, seed)

    def _templates(self, request: Request, seed: int) -> Moves:
        wording = wording_for([request]) if self.wording == "auto" else self.wording
        stages = [
            choose(phrases, len(phrases), seed=seed, request=request, salt=section)
            for section, phrases in worded(_FILE, wording, request).sections.items()
        ]
        words = slots(request, wording)
        talk, stage, tried = asked(request)[:-1], 0, Counter[int]()
        for _ in range(self.turns):
            phrase, setup = stages[stage][tried[stage] % len(stages[stage])], stage < len(stages) - 1
            conversation = (*talk, *user(phrase.fill(**words, last=_last(talk))))
            (answer,) = yield [Ask(conversation, phrase.id, setup=setup)]
            tried[stage] += 1
            kept = _kept(answer)
            if kept:
                talk = (*conversation, *kept)
            if setup and (kept or tried[stage] == len(stages[stage])):
                stage += 1

    def _written(self, request: Request) -> Moves:
        talk, note = asked(request)[:-1], "start"
        for turn in range(1, self.turns + 1):
            (idea,) = yield [Consult(self._briefing(request, talk, note, turn), fields=FIELDS)]
            if idea.fields is None:
                continue
            conversation = (*talk, *user(idea.fields["message"]))
            setup = idea.fields["stage"] == "approach" and turn < self.turns
            (answer,) = yield [Ask(conversation, "written", setup=setup)]
            kept = _kept(answer)
            talk, note = ((*conversation, *kept), "answered") if kept else (talk, "refused")

    def _briefing(self, request: Request, talk: Conversation, note: str, turn: int) -> Conversation:
        """Return what the attacker is told: the request, the conversation as it stands, how the last turn went."""
        phrases = {phrase.id: phrase for phrase in load_wording(_WRITER).sections["parts"]}
        said = "\n\n".join(f"{turn.role.upper()}: {turn.content[:SHOWN]}" for turn in talk)
        words = {"request": request.prompt, "talk": said or "(nothing yet)", "note": phrases[note].text}
        counts = {"turn": str(turn), "turns": str(self.turns)}
        return user(phrases["brief"].fill(**words, **counts), phrases["system"].text)


def _kept(answer: Answer) -> Conversation:
    """Return the reply as a turn of the conversation, or nothing if the question is to be taken back."""
    if answer.refused or not answer.text.strip():
        return ()
    return (Message("assistant", answer.text),)


def _last(talk: Conversation) -> str:
    """Return the beginning of the model's last answer, as a template quotes it."""
    said = next((turn.content for turn in reversed(talk) if turn.role == "assistant"), "")
    return " ".join(said.split()[:_QUOTED])
