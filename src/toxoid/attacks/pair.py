"""PAIR: a second model writes prompts, and improves them from the target's reply and the judge's rating.

Source: Chao et al. 2023, "Jailbreaking Black Box Large Language Models in Twenty Queries" (arXiv 2310.08419),
algorithm 1, with N = 30 streams of depth K = 3. The attacker's prompts are this project's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from toxoid.attacks.base import asked
from toxoid.attacks.interactive import Answer, Ask, Consult, Moves
from toxoid.attacks.wording import Phrase, load_wording
from toxoid.data.schemas import Conversation, Message, Request, user
from toxoid.judges.base import Outcome, Verdict

FIELDS = ("thought", "message")
"""What the attacker's answer has to hold."""
SHOWN = 2000
"""Characters of a reply that the attacker is shown."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Let an attacker improve its prompt, in independent streams.

    The streams follow one another, where the paper runs them side by side: no question is spent after one has landed,
    and many campaigns fill the batches. They take turns in how the attacker is told to frame the request. A malformed
    answer uses up a step of its stream.

    Args:
        streams: Beginnings from scratch (N).
        depth: Prompts per stream (K).
    """

    streams: int = 30
    depth: int = 3
    name: str = "pair"
    needs_attacker: bool = field(default=True, init=False)
    reads_refusals: bool = field(default=False, init=False)

    def identity(self) -> dict[str, Any]:
        """Return the digest of the attacker's prompts, and the streams' number and depth."""
        return {
            "attack": self.name,
            "wording": load_wording(self.name).sha256,
            "streams": self.streams,
            "depth": self.depth,
        }

    def play(self, request: Request, *, seed: int) -> Moves:
        """Ask attacker and target by turns, stream after stream."""
        systems = load_wording(self.name).of("systems", "evaluation")
        for stream in range(self.streams):
            system = systems[stream % len(systems)]
            talk = user(_phrase("first").fill(request=request.prompt), system.text)
            for _ in range(self.depth):
                (idea,) = yield [Consult(talk, fields=FIELDS)]
                if idea.fields is None:
                    continue
                (answer,) = yield [Ask(asked(request, idea.fields["message"]), system.id)]
                talk = (*talk, Message("assistant", idea.text), *_feedback(request, answer))


def rating(verdict: Verdict | None) -> str:
    """Return a verdict as the attacker is told it: 1 to 10, or that there is none."""
    if verdict is None or verdict.outcome is Outcome.UNSCORED:
        return "none (the reply could not be rated)"
    score = float(verdict.outcome is Outcome.HIT) if verdict.score is None else verdict.score
    return f"{1 + round(9 * score)} of 10"


def _feedback(request: Request, answer: Answer) -> Conversation:
    words = {"reply": answer.text[:SHOWN], "rating": rating(answer.verdict), "request": request.prompt}
    return user(_phrase("feedback").fill(**words))


def _phrase(section: str) -> Phrase:
    (phrase,) = load_wording("pair").sections[section]
    return phrase
