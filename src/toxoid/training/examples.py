"""Training examples: a conversation, the reply to learn, and their tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from toxoid.data.schemas import Conversation
from toxoid.engines.templates import (
    encode,
    encode_target,
    encode_text,
    encode_user_target,
    open_user_text,
)
from toxoid.errors import UsageError
from toxoid.store.keys import content_key

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that is read and not learnt, as in ``torch.nn.functional.cross_entropy``."""


@dataclass(frozen=True)
class Example:
    """One reply to learn in its context; the loss sees the target and the end of its turn, never the context.

    Args:
        conversation: Closed turns; the last one is the user's.
        target: What the model should write.
        prefill: The beginning of the assistant's turn, before ``target``; part of the context.
        weight: How much each target token counts, above 0; 1 is an ordinary example.
        source: Where it comes from, e.g. ``"good"``, ``"mistake"``, ``"general"``; for counts and cards only.
        turn: Whose words the target is. A ``user``'s continues the last message, which is then left open.
    """

    conversation: Conversation
    target: str
    prefill: str = ""
    weight: float = 1.0
    source: str = ""
    turn: Literal["assistant", "user"] = "assistant"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise UsageError(
                f"an example has weight {self.weight}: give a number above 0, or leave the example out"
            )
        if self.turn == "user" and self.prefill:
            raise UsageError(
                "an example of a user's turn has the beginning of a reply: leave the prefill out"
            )


@dataclass(frozen=True, slots=True)
class TokenisedExample:
    """An example as tokens.

    Args:
        input_ids: Context, then target, then the end of the turn.
        labels: Same length; :data:`IGNORED` on the context, the token itself on the target.
        weight: As in :class:`Example`.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    weight: float = 1.0


class TokenisedExamples(list[TokenisedExample]):
    """Tokenised examples, in the order of the originals, and what their length did to them.

    Attributes:
        cut: How many lost the beginning of their context.
        dropped: How many are absent, because not even their target fits.
    """

    def __init__(self, rows: Iterable[TokenisedExample] = (), *, cut: int = 0, dropped: int = 0) -> None:
        super().__init__(rows)
        self.cut = cut
        self.dropped = dropped


def tokenise(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> TokenisedExamples:
    """Return the examples as tokens, none longer than ``max_length``.

    An example that is too long loses the left of its context (its first token stays where that is the
    beginning-of-sequence token, which many models cannot do without). One whose target leaves no room for a
    single token of context is dropped. Both are counted in the result.

    Raises:
        UsageError: The chat template refuses a conversation.
    """
    fitted = [
        _fit(*_tokens(example, tokenizer), example.weight, max_length, tokenizer.bos_token_id)
        for example in examples
    ]
    rows = [pair for pair in fitted if pair is not None]
    return TokenisedExamples(
        (row for row, _ in rows), cut=sum(cut for _, cut in rows), dropped=len(fitted) - len(rows)
    )


def data_hash(rows: Sequence[TokenisedExample]) -> str:
    """Return the sha256 (hex) over tokens, labels and weights, in order."""
    return content_key([[row.input_ids, row.labels, float(row.weight)] for row in rows])


def _tokens(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    if example.turn == "user":
        return (
            encode_text(tokenizer, open_user_text(tokenizer, example.conversation)),
            encode_user_target(tokenizer, example.conversation, example.target),
        )
    prefill = example.prefill or None
    return (
        encode(tokenizer, example.conversation, prefill=prefill),
        encode_target(tokenizer, example.target, prefill=prefill),
    )


def token_limit(model: Any, max_length: int) -> int:
    """Return how many tokens a row may have: ``max_length``, or fewer if the model's context window is smaller."""
    return min(max_length, getattr(model.config, "max_position_embeddings", None) or max_length)


def fitted_context(context: Sequence[int], room: int, bos: int | None) -> tuple[list[int], bool] | None:
    """Return the end of ``context`` that has ``room``, and whether it was cut; ``None`` without room for a token.

    The first token stays where it is ``bos``, the beginning of the sequence, and there is room for another.
    """
    if room < 1:  # the first target token is predicted from the token before it
        return None
    if len(context) <= room:
        return list(context), False
    keeps_bos = context[0] == bos and room > 1
    return [context[0], *context[len(context) - room + 1 :]] if keeps_bos else list(context[-room:]), True


def _fit(
    context: list[int], target: list[int], weight: float, max_length: int, bos: int | None
) -> tuple[TokenisedExample, bool] | None:
    """Return the example within ``max_length`` and whether its context was cut; ``None`` if it cannot fit."""
    fitted = fitted_context(context, max_length - len(target), bos)
    if fitted is None:
        return None
    kept, cut = fitted
    labels = (*[IGNORED] * len(kept), *target)
    return TokenisedExample((*kept, *target), labels, weight), cut
