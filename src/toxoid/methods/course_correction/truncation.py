"""Initial harmful responses: nested beginnings of a harmful reply that end where a clause ends (C2-Syn, step 2)."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal, TypeAlias

DELIMITERS = frozenset(',.!:;?-"(){}[]')
"""The characters after which a reply may be cut."""

Degenerate: TypeAlias = Literal["missing", "whole", "equal", "wordless"]
"""Why a truncation is no use.

- ``missing``: the reply has too few delimiters for it.
- ``whole``: it has every word of the reply.
- ``equal``: it has no word more than the one before it.
- ``wordless``: it has no word at all.
"""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Truncations:
    """What can be cut from a reply.

    Args:
        kept: Number i (from 1) to IHR_i, the shortest first; each has a word more than the one before it, and not
            all of the reply's.
        dropped: The others, by why they are degenerate.
    """

    kept: dict[int, str]
    dropped: Counter[Degenerate]


def truncate(reply: str, count: int, *, longer: bool) -> Truncations:
    """Return ``count`` nested truncations of a reply, at equal steps of its delimiters (Xu et al. 2024, section 3).

    Of t delimiters, IHR_i ends with the (i * d)-th. The paper draws the stride d from {floor(t/count) - 1,
    floor(t/count)}; here it is at least 1, where the paper's may be 0 and leaves nothing of the reply.

    Args:
        reply: The full harmful response.
        count: K, 4 in the paper.
        longer: Which of the two strides to take: one draw decides it for all truncations of a reply.
    """
    ends = [index + 1 for index, character in enumerate(reply) if character in DELIMITERS]
    stride = max(1, len(ends) // count - (0 if longer else 1))
    whole, before = _words(reply), 0
    found = Truncations({}, Counter())
    for number in range(1, count + 1):
        text = reply[: ends[number * stride - 1]] if number * stride <= len(ends) else None
        words = _words(text or "")
        if complaint := _complaint(text, words, before, whole):
            found.dropped[complaint] += 1
        elif text is not None:
            found.kept[number] = text
            before = words
    return found


def _complaint(text: str | None, words: int, before: int, whole: int) -> Degenerate | None:
    """Return why a truncation is degenerate; of nested beginnings the numbers of words tell everything."""
    if text is None:
        return "missing"
    if not words:
        return "wordless"
    if words >= whole:
        return "whole"
    return "equal" if words == before else None


def _words(text: str) -> int:
    return len(_WORD.findall(text))
