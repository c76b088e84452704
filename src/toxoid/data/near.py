"""Nearly equal texts: those that share most of their runs of three words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from toxoid.data.request_set import normalised

HALF = 0.5
"""The share from which on a text tells too much of another for one to be learnt and the other measured."""


class NearTexts:
    """Texts, to be asked whether another one is nearly one of them.

    Args:
        texts: To begin with.
        share: Of the different triples of two texts, those that both have (their Jaccard similarity): from this share
            on the texts are nearly equal. Texts that differ in case and punctuation only share all.
    """

    def __init__(self, texts: Iterable[str] = (), *, share: float = HALF) -> None:
        self._share = share
        self._sizes: list[int] = []
        self._where: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Add a text."""
        found = triples(text)
        for triple in found:
            self._where[triple].append(len(self._sizes))
        self._sizes.append(len(found))

    def __contains__(self, text: str) -> bool:
        own = triples(text)
        shared = Counter(index for triple in own for index in self._where.get(triple, ()))
        return any(n >= self._share * (len(own) + self._sizes[index] - n) for index, n in shared.items())


def triples(text: str) -> set[tuple[str, ...]]:
    """Return the runs of three words in a text; all its words if they are fewer."""
    words = normalised(text).split()
    return {tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2))}
