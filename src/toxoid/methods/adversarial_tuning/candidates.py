"""From proposals to candidates: each one language, new, and in no frozen slice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import TypeAlias

from toxoid.data.request_set import normalised
from toxoid.judges.base import Outcome
from toxoid.judges.validity import read_validity

Validity: TypeAlias = Callable[[str], bool]
"""Whether a text is a request at all."""

MAX_CHARACTERS = 4000
_QUOTES = {'"': '"', "“": "”", "'": "'", "«": "»"}


def is_language(text: str) -> bool:
    """Return whether nothing shows that ``text`` is no language (:mod:`toxoid.judges.validity`)."""
    return read_validity(text).outcome is Outcome.HIT


def tidy(text: str) -> str:
    """Return a proposal without blanks around it, a list's number before it, and quotes around the whole."""
    text = text.strip()
    number, dot, rest = text.partition(". ")
    text = rest.strip() if dot and number.isdigit() else text
    closing = _QUOTES.get(text[:1])
    inner = text[1:-1]
    if closing and len(text) > 1 and text.endswith(closing) and text[0] not in inner and closing not in inner:
        text = inner.strip()
    return text


class Sieve:
    """Lets every new valid candidate through once.

    Args:
        known: Normalised texts of all earlier prompts, of every round and of the seed set.
        held_out: Normalised texts of the frozen slices.
        valid: What makes a request.

    Attributes:
        counts: Proposals by what became of them: ``kept``, ``empty``, ``too_long``, ``invalid``, ``repeated`` (within
            this sieve), ``known`` (from earlier), ``held_out``.
    """

    def __init__(self, known: AbstractSet[str], held_out: AbstractSet[str], valid: Validity) -> None:
        self._known, self._held_out, self._valid = known, held_out, valid
        self._kept: set[str] = set()
        self.counts: Counter[str] = Counter()

    def sift(self, proposals: Iterable[str]) -> list[str]:
        """Return the candidates among ``proposals``, tidied, in order."""
        kept = []
        for text in map(tidy, proposals):
            reason = self._reason(text)
            self.counts[reason] += 1
            if reason == "kept":
                self._kept.add(normalised(text))
                kept.append(text)
        return kept

    def _reason(self, text: str) -> str:
        key = normalised(text)
        if not key:
            return "empty"
        if len(text) > MAX_CHARACTERS:
            return "too_long"
        for reason, texts in (
            ("repeated", self._kept),
            ("known", self._known),
            ("held_out", self._held_out),
        ):
            if key in texts:
                return reason
        return "kept" if self._valid(text) else "invalid"
