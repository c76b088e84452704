"""Payload splitting: the request in pieces, none of which says it, to be joined by the model.

Source: Kang et al. 2023 (arXiv 2302.05733).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from string import ascii_lowercase
from typing import Any, Literal, TypeAlias

from toxoid.attacks.base import AttackedPrompt, Pool, asked, choose
from toxoid.attacks.wording import Phrase, Wording, check_variants, load_wording
from toxoid.data.schemas import Conversation, Message, Request

PIECES = (2, 3, 4)
"""Numbers of pieces that a request is cut into."""

SplittingName: TypeAlias = Literal["payload_splitting", "payload_splitting_turns"]

_SECTIONS: dict[SplittingName, tuple[str, ...]] = {
    "payload_splitting": ("lines", "frames"),
    "payload_splitting_turns": ("turns", "acknowledgements", "closings"),
}


@dataclass(frozen=True, slots=True)
class Splitting:
    """Tell the request in 2 to 4 quoted pieces (JSON strings), cut where words begin.

    ``payload_splitting`` puts them into one message, as variables or numbered; ``payload_splitting_turns`` tells
    each in a turn of its own, which a neutral acknowledgement answers, and asks for the whole at the end.

    Args:
        name: Which of the two.
        variants: Combinations of wordings and number of pieces per request.
        pool: Which wordings to use.
    """

    name: SplittingName
    variants: int = 1
    pool: Pool = "evaluation"
    wording: Wording = field(default_factory=lambda: load_wording("payload_splitting"), repr=False)

    def __post_init__(self) -> None:
        check_variants(self.name, self.variants, len(self._combinations()))

    def identity(self) -> dict[str, Any]:
        """Return the wordings' digest, the numbers of pieces, the pool and the number of variants."""
        return {
            "attack": self.name,
            "wording": self.wording.sha256,
            "pieces": list(PIECES),
            "pool": self.pool,
            "variants": self.variants,
        }

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return one conversation per combination chosen."""
        build = _in_one_message if self.name == "payload_splitting" else _over_turns
        chosen = choose(self._combinations(), self.variants, seed=seed, request=request, salt=self.name)
        return [
            AttackedPrompt(
                request,
                build(request, pieces_of(request.prompt, count), *phrases),
                self.name,
                "/".join([*(phrase.id for phrase in phrases), f"pieces={count}"]),
            )
            for phrases, count in chosen
        ]

    def _combinations(self) -> list[tuple[tuple[Phrase, ...], int]]:
        """Return every choice of one phrase per section, with every number of pieces."""
        sections = (self.wording.of(section, self.pool) for section in _SECTIONS[self.name])
        return list(product(product(*sections), PIECES))


def pieces_of(text: str, count: int) -> list[str]:
    """Return ``text`` in ``count`` pieces of about the same length, cut where words begin; joined they give ``text``.

    A text of fewer words is cut inside them, and pieces are empty only where it has fewer characters.
    """
    starts = [at for at in range(1, len(text)) if text[at - 1].isspace() and not text[at].isspace()]
    if len(starts) < count - 1:
        starts = list(range(1, len(text)))
    cuts = [0]
    for number in range(1, count):
        later = [at for at in starts if at > cuts[-1]]
        room = later[: len(later) - (count - 1 - number)] or later  # leave one start for each cut to come
        cuts.append(min(room, key=lambda at: abs(at - len(text) * number / count), default=len(text)))
    return [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _in_one_message(request: Request, pieces: Sequence[str], line: Phrase, frame: Phrase) -> Conversation:
    lines = "\n".join(_told(line, number, pieces) for number in range(1, len(pieces) + 1))
    return asked(request, frame.fill(pieces=lines, count=str(len(pieces))))


def _over_turns(
    request: Request, pieces: Sequence[str], turn: Phrase, acknowledgement: Phrase, closing: Phrase
) -> Conversation:
    *earlier, last = asked(request, closing.text)
    told = (
        message
        for number in range(1, len(pieces) + 1)
        for message in (
            Message("user", _told(turn, number, pieces)),
            Message("assistant", acknowledgement.text),
        )
    )
    return (*earlier, *told, last)


def _told(phrase: Phrase, number: int, pieces: Sequence[str]) -> str:
    """Return the phrase that tells the piece of a number, counted from 1."""
    return phrase.fill(
        name=ascii_lowercase[number - 1],
        number=str(number),
        count=str(len(pieces)),
        piece=json.dumps(pieces[number - 1], ensure_ascii=False),
    )
