"""What opposite prompts read: anchors as tokens under either prompt, and which of them come when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from toxoid.engines.prefix_tree import Tokens
from toxoid.engines.soft_prompt import Place
from toxoid.engines.templates import encode_target
from toxoid.training.batches import Collator
from toxoid.training.examples import IGNORED, Example, TokenisedExample, fitted_context
from toxoid.training.soft_prompts.settings import Anchors, PromptObjective

Source: TypeAlias = Literal["kept", "refused", "complied", "declined"]

SOURCES: tuple[Source, ...] = ("kept", "refused", "complied", "declined")
SAFE, OPPOSITE = 0, 1


@dataclass(frozen=True, slots=True)
class Term:
    """One term of the losses: what one prompt learns from one set.

    Args:
        prompt: :data:`SAFE` or :data:`OPPOSITE`.
        source: The set.
        unlikely: Whether the prompt is kept from these replies; otherwise it learns them.
    """

    prompt: int
    source: Source
    unlikely: bool = False

    @property
    def name(self) -> str:
        """Return the term's name in reports, e.g. ``SP refused`` or ``AP not refused``."""
        return f"{('SP', 'AP')[self.prompt]} {'not ' if self.unlikely else ''}{self.source}"


def loss_terms(objective: PromptObjective, anchors: Anchors) -> list[Term]:
    """Return the terms of L_SP and L_AP that count with these settings and anchors."""
    unlikely = [Term(SAFE, "complied", unlikely=True), Term(OPPOSITE, "refused", unlikely=True)]
    declined = [Term(OPPOSITE, "declined")]
    return [
        Term(SAFE, "refused"),
        Term(SAFE, "kept"),
        Term(OPPOSITE, "complied"),
        Term(OPPOSITE, "kept"),
        *(declined if anchors.declined else []),
        *(unlikely if objective.unlikelihood else []),
    ]


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One reply under one prompt.

    Args:
        tokens: Head, virtual tokens, rest of the context, target.
        term: The number of the loss term it counts for.
    """

    tokens: TokenisedExample
    term: int

    def without_a_say(self) -> PromptRow:
        """Return the same row with weight 0."""
        return replace(self, tokens=replace(self.tokens, weight=0.0))


Draw: TypeAlias = tuple[PromptRow, ...]
"""What one anchor, or one of each set, comes to: a row for every prompt that uses it."""


class TokenisedAnchors(dict[Source, list[Draw]]):
    """The anchors of each set as tokens, in the order of the originals.

    Attributes:
        cut: How many lost the beginning of their context.
        dropped: How many are absent, because not even their target fits.
    """

    cut = 0
    dropped = 0


def tokenise_anchors(
    anchors: Anchors,
    terms: Sequence[Term],
    *,
    place: Place,
    tokenizer: Any,
    soft: Sequence[Tokens],
    limit: int,
) -> TokenisedAnchors:
    """Return the anchors as tokens, none longer than ``limit``; see :func:`toxoid.training.examples.tokenise`.

    Args:
        anchors: The anchors.
        terms: What they count for; an anchor without a term is left out.
        place: Where the prompts stand.
        tokenizer: Of the model.
        soft: The virtual tokens of SP and of AP.
        limit: Tokens of a row.

    Raises:
        UsageError: The chat template refuses a conversation.
    """
    found = TokenisedAnchors({source: [] for source in SOURCES})
    room = limit - len(place.head) - len(soft[SAFE])
    for source in SOURCES:
        for index, example in enumerate(getattr(anchors, source)):
            used = [number for number, term in enumerate(terms) if _counts(term, source, index, anchors)]
            if not used:
                continue
            fitted = _fitted(example, place, tokenizer, room)
            if fitted is None:
                found.dropped += 1
                continue
            context, target, cut = fitted
            heads = {number: (*place.head, *soft[terms[number].prompt]) for number in used}
            draw = [PromptRow(_row((*heads[n], *context), target, example.weight), n) for n in used]
            found[source].append(tuple(draw))
            found.cut += cut
    return found


class PromptRows:
    """The draws of a training by position: one anchor of every set.

    The anchors of a set are taken in rounds, each a permutation of all of them, so that none comes a second time
    before every other has come once. A pure function of seed and position, so that a resumed training sees what an
    uninterrupted one would have seen.

    Args:
        anchors: The sets; empty ones take no part.
        seed: Of the permutations.
    """

    def __init__(self, anchors: TokenisedAnchors, *, seed: int) -> None:
        self._sets = [draws for draws in anchors.values() if draws]
        self._seed = seed

    def __len__(self) -> int:
        """Return the size of the largest set: of positions there is no end."""
        return max(map(len, self._sets))

    def __getitem__(self, position: int) -> Draw:
        """Return what comes at a position."""
        drawn: list[PromptRow] = []
        for number, draws in enumerate(self._sets):
            turn, place = divmod(position, len(draws))
            order = _permutation(len(draws), self._seed, turn * len(SOURCES) + number)
            drawn += draws[order[place]]
        return tuple(drawn)


class PromptCollator:
    """Turns draws into the tensors of one forward pass, both prompts in it.

    Args:
        pad: The id to pad with; any id of the model's own will do.
    """

    def __init__(self, *, pad: int) -> None:
        self._collate = Collator(pad=pad, narrow=False)

    def __call__(self, draws: Sequence[Draw]) -> dict[str, Tensor]:
        """Return what :class:`toxoid.training.batches.Collator` makes, and ``terms`` ``(tokens,)``, of each target.

        Rows without a say count 0 in ``lengths``.
        """
        rows = [row for draw in draws for row in draw]
        batch = self._collate([row.tokens for row in rows])
        terms = torch.tensor([row.term for row in rows])
        lengths = batch["lengths"] * torch.tensor([row.tokens.weight > 0 for row in rows])
        return {**batch, "lengths": lengths, "terms": terms[batch["picked"] // batch["input_ids"].shape[1]]}


def _counts(term: Term, source: Source, index: int, anchors: Anchors) -> bool:
    """Return whether a term is about the ``index``-th anchor of a set."""
    flags = (anchors.kept_by_safe, anchors.kept_by_opposite)[term.prompt] if source == "kept" else None
    return term.source == source and (flags is None or flags[index])


def _fitted(
    example: Example, place: Place, tokenizer: Any, room: int
) -> tuple[list[int], list[int], bool] | None:
    """Return context, target and whether the context was cut; ``None`` if the target does not fit."""
    target = encode_target(tokenizer, example.target)
    fitted = fitted_context(place.rest(example.conversation), room - len(target), tokenizer.bos_token_id)
    return None if fitted is None else (fitted[0], target, fitted[1])


def _row(context: Tokens, target: Sequence[int], weight: float) -> TokenisedExample:
    return TokenisedExample((*context, *target), (*[IGNORED] * len(context), *target), weight)


@lru_cache(maxsize=2 * len(SOURCES))
def _permutation(size: int, seed: int, turn: int) -> list[int]:
    order: list[int] = np.random.Generator(np.random.Philox(key=[seed, turn])).permutation(size).tolist()
    return order
