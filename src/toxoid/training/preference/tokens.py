"""Preference examples as tokens, none longer than the model reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from toxoid.engines.templates import encode, encode_target
from toxoid.errors import UsageError
from toxoid.progress import SILENT, Progress
from toxoid.store.keys import content_key
from toxoid.training.examples import TokenisedExample, data_hash, fitted_context
from toxoid.training.preference.examples import PreferenceExample
from toxoid.training.preference.settings import Objective

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Tokens: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TokenisedGroup:
    """A preference example as tokens; replies of which nothing is learnt are left out.

    Args:
        context: The conversation and the trunk, at least one token; shape ``(tokens,)``.
        replies: Each with the end of the turn, shape ``(tokens,)``. Arrays, because a large set has millions.
        pairs: (index of the chosen reply, of the rejected one, weight).
        imitated: (index of the reply, its first imitated token).
    """

    context: Tokens
    replies: tuple[Tokens, ...]
    pairs: tuple[tuple[int, int, float], ...]
    imitated: tuple[tuple[int, int], ...]


class TokenisedGroups(list[TokenisedGroup]):
    """Tokenised groups, in the order of the originals, and what their length did to them.

    Attributes:
        cut: How many lost the beginning of their context.
        dropped: How many are absent, because their longest reply does not fit.
    """

    def __init__(self, groups: Iterable[TokenisedGroup] = (), *, cut: int = 0, dropped: int = 0) -> None:
        super().__init__(groups)
        self.cut = cut
        self.dropped = dropped


def tokenise_groups(
    examples: Sequence[PreferenceExample],
    tokenizer: PreTrainedTokenizerBase,
    objective: Objective,
    max_length: int,
    progress: Progress = SILENT,
) -> TokenisedGroups:
    """Return the groups as tokens, every path through them at most ``max_length`` long.

    Too long a context loses its left, for all replies alike, as in
    :func:`toxoid.training.examples.tokenise`. A group whose longest reply leaves no room for a token of context
    is dropped: without that reply it would be another group. Both are counted in the result. A group of which
    nothing is learnt, because only imitation counts and it has none, is left out.

    Raises:
        UsageError: A group has no pairs, which ``objective`` compares, or nothing at all is imitated, which it
            asks for; or the chat template refuses a conversation.
    """
    _demand_something(examples, objective)
    fitted = []
    with progress.task("tokenise", len(examples), "groups") as task:
        for example in examples:
            fitted.append(_fit(_tokens(example, tokenizer, objective), max_length, tokenizer))
            task.advance()
    kept = [pair for pair in fitted if pair is not None and pair[0].replies]
    return TokenisedGroups(
        (group for group, _ in kept), cut=sum(cut for _, cut in kept), dropped=fitted.count(None)
    )


def groups_hash(groups: Sequence[TokenisedGroup], anchors: Sequence[TokenisedExample]) -> str:
    """Return the sha256 (hex) over the tokens, pairs, weights and imitated parts of groups, and over anchors."""
    digest = sha256()
    for group in groups:
        learnt = content_key([[a, b, float(weight)] for a, b, weight in group.pairs], list(group.imitated))
        digest.update(learnt.encode())
        for part in (group.context, *group.replies):
            digest.update(tokens_hash(part).encode())
    return content_key(digest.hexdigest(), data_hash(anchors))


def tokens_hash(tokens: Tokens) -> str:
    """Return the sha256 (hex) of token ids."""
    return sha256(tokens.astype("<i4").tobytes()).hexdigest()


def _demand_something(examples: Sequence[PreferenceExample], objective: Objective) -> None:
    if not examples:
        raise UsageError("there are 0 groups to train on: give at least one")
    if objective.needs_pairs:
        alone = next((example for example in examples if not example.pairs), None)
        if alone is not None:
            raise UsageError(
                f"group {alone.group.id} has no pairs, and the weight of the preferences is "
                f"{objective.weight:g}: give it pairs, leave it out, or set the weight to 0"
            )
    if objective.imitation and not any(example.imitated for example in examples):
        raise UsageError(
            f"imitation is {objective.imitation:g} and no group has a reply to imitate: name some, or set it to 0"
        )


def _tokens(
    example: PreferenceExample, tokenizer: PreTrainedTokenizerBase, objective: Objective
) -> TokenisedGroup:
    pairs = example.pairs if objective.needs_pairs else ()
    imitated = example.imitated if objective.imitation else ()
    used = sorted({index for a, b, _ in pairs for index in (a, b)} | {index for index, _ in imitated})
    number = {index: place for place, index in enumerate(used)}
    trunk = example.group.trunk or None
    texts = [example.group.replies[index].text for index in used]
    replies = [encode_target(tokenizer, text, prefill=trunk) for text in texts]
    return TokenisedGroup(
        context=_array(encode(tokenizer, example.group.conversation, prefill=trunk)),
        replies=tuple(map(_array, replies)),
        pairs=tuple((number[a], number[b], weight) for a, b, weight in pairs),
        imitated=tuple(
            (number[index], _token_at(tokenizer, texts[number[index]], replies[number[index]], start, trunk))
            for index, start in imitated
        ),
    )


def _token_at(
    tokenizer: PreTrainedTokenizerBase, text: str, reply: Sequence[int], start: int, trunk: str | None
) -> int:
    """Return the first token of ``reply`` that is not wholly before character ``start`` of its ``text``.

    That is where it parts from the tokens of the text cut there. Where the cut splits a word, these may part a
    token or two earlier; not later.
    """
    if start == 0:
        return 0
    before = encode_target(tokenizer, text[:start], prefill=trunk)
    agreeing = enumerate(zip(reply, before, strict=False))
    return next((i for i, (a, b) in agreeing if a != b), min(len(reply), len(before)) - 1)


def _fit(
    group: TokenisedGroup, max_length: int, tokenizer: PreTrainedTokenizerBase
) -> tuple[TokenisedGroup, bool] | None:
    """Return the group within ``max_length`` and whether its context was cut; ``None`` if it cannot fit."""
    longest = max((len(reply) for reply in group.replies), default=0)
    fitted = fitted_context(group.context.tolist(), max_length - longest, tokenizer.bos_token_id)
    if fitted is None:
        return None
    context, cut = fitted
    return TokenisedGroup(_array(context), group.replies, group.pairs, group.imitated), cut


def _array(tokens: Sequence[int]) -> Tokens:
    return np.asarray(tokens, dtype=np.int32)
