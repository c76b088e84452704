"""The tree of prompts: which of them begin alike, and so how they are read with every token computed once.

A prompt that begins as a longer one does takes the keys and values of what they share from it and computes its
own last tokens only. Prefixes of one reply (C2-Eval's, papers: course-correction) are the extreme: the longest
is read, each of the others costs one token or a few, where the tokenisation of its end differs.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

Tokens: TypeAlias = tuple[int, ...]

_LEAST_SHARED = 8
"""Fewer tokens are computed again rather than copied: a template's header is no reason for another pass."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How one prompt is read.

    Args:
        source: The prompt whose first tokens are taken over; ``None`` if all are computed.
        shared: How many are; always fewer than the prompt has, since its last one gives the first logits.
        level: Passes that must come before: 0 without a source, else one more than the source's.
        known: The known prefix that its first tokens are taken from, in place of a source.
    """

    source: int | None
    shared: int
    level: int
    known: int | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """One forward pass of the reading: the last ``columns`` tokens of some prompts, and where the rest is."""

    columns: int
    members: list[int]


def readings(prompts: Sequence[Tokens], known: Sequence[Tokens] = ()) -> list[Reading]:
    """Return how each prompt is read.

    From the longest on, a prompt takes over what it shares with one before it, if that is at least half of
    it. Of several that share as much, the one of the lowest level is the source. What has none takes over the
    first of the ``known`` prefixes that it begins with and goes on after; so does what a source would hardly spare
    more, since a source is another pass.
    """
    plan: dict[int, Reading] = {}
    seen: list[tuple[Tokens, int]] = []
    for index in sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), prompts[i], i)):
        entry = (prompts[index], index)
        place = bisect(seen, entry)
        # Among sorted sequences the longest common beginning is with a neighbour.
        shared, source = max(
            (
                (_common(prompts[index], tokens), -other)
                for tokens, other in seen[max(place - 1, 0) : place + 1]
            ),
            default=(0, 0),
        )
        read = _reading(plan, prompts[index], -source, shared)
        recalled = _recalled(prompts[index], known)
        plan[index] = read if read.shared >= recalled.shared + _LEAST_SHARED else recalled
        insort(seen, entry)
    return [plan[index] for index in range(len(prompts))]


def reading_order(prompts: Sequence[Tokens]) -> list[int]:
    """Return the prompts in an order that keeps those that share together, and like lengths next to each other."""
    plan = readings(prompts)
    children: dict[int | None, list[int]] = {}
    for index in sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i], i), reverse=True):
        children.setdefault(plan[index].source, []).append(index)
    order: list[int] = []
    stack = list(children.get(None, ()))
    while stack:
        order.append(stack.pop())
        stack += reversed(children.get(order[-1], ()))
    return order


def rounds(prompts: Sequence[Tokens], plan: Sequence[Reading]) -> list[Round]:
    """Return the forward passes that read ``prompts``; a source is read in an earlier pass than what uses it.

    Prompts of one level that have from 2^(i-1) + 1 to 2^i tokens of their own are read together; each
    computes as many as the one with most, so that at most half of what is computed was known.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (prompt, reading) in enumerate(zip(prompts, plan, strict=True)):
        own = len(prompt) - reading.shared
        groups.setdefault((reading.level, (own - 1).bit_length() if reading.level else 0), []).append(index)
    return [
        Round(max(len(prompts[i]) - plan[i].shared for i in members), members)
        for _, members in sorted(groups.items())
    ]


def _reading(plan: dict[int, Reading], prompt: Tokens, source: int, shared: int) -> Reading:
    shared = min(shared, len(prompt) - 1)
    if shared < _LEAST_SHARED or 2 * shared < len(prompt):
        return Reading(None, 0, 0)
    while (above := plan[source]).source is not None and above.shared >= shared:
        source = above.source
    return Reading(source, shared, plan[source].level + 1)


def _recalled(prompt: Tokens, known: Sequence[Tokens]) -> Reading:
    for index, prefix in enumerate(known):
        if len(prefix) < len(prompt) and prompt[: len(prefix)] == prefix:
            return Reading(None, len(prefix), 0, index)
    return Reading(None, 0, 0)


def _common(one: Tokens, other: Tokens) -> int:
    """Return the length of the longest common beginning."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))
