"""Preference examples: a group, and what is learnt from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from toxoid.data.groups import Group
from toxoid.errors import UsageError


@dataclass(frozen=True)
class PreferenceExample:
    """A group of replies with the comparisons to learn from it.

    Args:
        group: The replies in their context.
        pairs: (index of the chosen reply, index of the rejected one, weight above 0).
        imitated: (index of a reply, character of its text from which on it is imitated).

    Raises:
        UsageError: A pair or an imitated part does not exist in the group; the text names the group.
    """

    group: Group
    pairs: tuple[tuple[int, int, float], ...]
    imitated: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        complaint = _complaint(self)
        if complaint:
            raise UsageError(f"group {self.group.id}: {complaint}")


def _complaint(example: PreferenceExample) -> str:
    replies = example.group.replies
    for chosen, rejected, weight in example.pairs:
        if not (0 <= chosen < len(replies) and 0 <= rejected < len(replies)):
            return f"the pair ({chosen}, {rejected}) names a reply beyond its {len(replies)}: give indices from 0"
        if chosen == rejected:
            return f"reply {chosen} is compared with itself: leave that pair out"
        if not (math.isfinite(weight) and weight > 0):
            return (
                f"the pair ({chosen}, {rejected}) has weight {weight}: give a number above 0, or leave it out"
            )
    for index, start in example.imitated:
        if not 0 <= index < len(replies):
            return f"reply {index} of {len(replies)} is imitated: give an index from 0"
        if not 0 <= start < len(replies[index].text):
            length = len(replies[index].text)
            return f"reply {index} is imitated from character {start} of {length}: give a place in it"
    if len({index for index, _ in example.imitated}) < len(example.imitated):
        return "a reply is imitated twice: give each once"
    return ""
