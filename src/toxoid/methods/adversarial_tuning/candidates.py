"""From proposals to candidates: each one language, new, and nearly in no frozen slice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeAlias

from toxoid.data.near import NearTexts
from toxoid.data.request_set import normalised
from toxoid.judges.base import Outcome
from toxoid.judges.validity import read_validity

Validity: TypeAlias = Callable[[str], bool]
"""Whether a text is a request at all."""

MAX_CHARACTERS = 4000
NEAR = 0.8
"""Share of common word triples from which on a candidate is not new (:class:`toxoid.data.near.NearTexts`).

Higher than between training and measurement: one wording around two goals makes two requests, and what counts may be
that they differ.
"""
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
    """Lets every valid candidate through that is not nearly equal to one before it.

    Args:
        known: All earlier prompts, of every round and of the seed set.
        held_out: The frozen slices.
        valid: What makes a request.

    Attributes:
        counts: Proposals by what became of them: ``kept``, ``empty``, ``too_long``, ``invalid``, ``repeated`` (nearly,
            within this sieve), ``known`` (nearly, from earlier), ``held_out`` (nearly).
    """

    def __init__(self, known: Iterable[str], held_out: Iterable[str], valid: Validity) -> None:
        self._known, self._held_out = NearTexts(known, share=NEAR), NearTexts(held_out, share=NEAR)
        self._kept = NearTexts(share=NEAR)
        self._valid = valid
        self.counts: Counter[str] = Counter()

    def sift(self, proposals: Iterable[str]) -> list[str]:
        """Return the candidates among ``proposals``, tidied, in order."""
        kept = []
        for text in map(tidy, proposals):
            reason = self._reason(text)
            self.counts[reason] += 1
            if reason == "kept":
                self._kept.add(text)
                kept.append(text)
        return kept

    def _reason(self, text: str) -> str:
        if not normalised(text):
            return "empty"
        if len(text) > MAX_CHARACTERS:
            return "too_long"
        for reason, texts in (
            ("repeated", self._kept),
            ("known", self._known),
            ("held_out", self._held_out),
        ):
            if text in texts:
                return reason
        return "kept" if self._valid(text) else "invalid"
