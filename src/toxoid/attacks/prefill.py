"""Prefill: the reply is begun for the model, affirmatively, and the model continues it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from toxoid.attacks.base import AttackedPrompt, Pool, asked, choose
from toxoid.attacks.wording import Wording, check_variants, load_wording
from toxoid.data.schemas import Request

MAX_WORDS = 25
"""A target may be a whole reply; of it, at most this many words are prefilled."""
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s|\n")


@dataclass(frozen=True, slots=True)
class Prefill:
    """Open the assistant's turn with the request's target, or with one of toxoid's own openers.

    Args:
        variants: Openers per request. The target, where there is one, comes first.
        pool: Which of the own openers to use. A data set's targets belong to no pool.
    """

    variants: int = 1
    pool: Pool = "evaluation"
    name: str = "prefill"
    wording: Wording = field(default_factory=lambda: load_wording("prefill"), repr=False)

    def __post_init__(self) -> None:
        check_variants(self.name, self.variants, len(self.wording.of("openers", self.pool)))

    def identity(self) -> dict[str, Any]:
        """Return the openers' digest, the pool and the number of variants."""
        return {
            "attack": self.name,
            "wording": self.wording.sha256,
            "pool": self.pool,
            "variants": self.variants,
            "max_words": MAX_WORDS,
        }

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return one conversation per opener, with the opener as prefill."""
        own = choose(
            self.wording.of("openers", self.pool), self.variants, seed=seed, request=request, salt=self.name
        )
        openers = [("target", opener_of(request.target))] if request.target else []
        openers += [(phrase.id, phrase.text) for phrase in own]
        return [
            AttackedPrompt(request, asked(request), self.name, variant, prefill=opener)
            for variant, opener in openers[: self.variants]
        ]


def opener_of(target: str) -> str:
    """Return the first sentence of a target, cut after ``MAX_WORDS`` words."""
    first = _SENTENCE_END.split(target.strip(), maxsplit=1)[0]
    return " ".join(first.split()[:MAX_WORDS])
