"""How varied an adversary is, and whether it has collapsed onto a few prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from toxoid.data.request_set import normalised
from toxoid.stats.resampling import Floats


@dataclass(frozen=True, slots=True)
class Diversity:
    """The variety of one round's candidates. All grow with variety and lie in [0, 1], ``spread`` in [0, 2].

    ``distinct_n`` falls as there are more candidates: compare rounds of equal size.

    Args:
        distinct: Different word n-grams in all n-grams, for n = 1, 2, 3 (Li et al. 2016, arXiv 1510.03055).
        spread: Mean cosine distance between two candidates' counts of words; ``None`` for fewer than two.
        new: Share of the proposals that were new valid candidates.
    """

    distinct: tuple[float, float, float]
    spread: float | None
    new: float


def diversity(candidates: Sequence[str], proposals: int) -> Diversity:
    """Return the variety of the ``candidates`` that came out of so many ``proposals``."""
    words = [normalised(text).split() for text in candidates]
    one, two, three = (_distinct(words, size) for size in (1, 2, 3))
    return Diversity(
        (one, two, three), _spread(_word_counts(words)), len(candidates) / proposals if proposals else 0.0
    )


def _distinct(words: Sequence[Sequence[str]], size: int) -> float:
    grams = Counter(gram for text in words for gram in zip(*(text[i:] for i in range(size)), strict=False))
    return len(grams) / grams.total() if grams else 0.0


def _word_counts(words: Sequence[Sequence[str]]) -> Floats:
    columns: Mapping[str, int] = {
        word: i for i, word in enumerate(sorted({w for text in words for w in text}))
    }
    counts = np.zeros((len(words), len(columns)))
    for row, text in enumerate(words):
        for word in text:
            counts[row, columns[word]] += 1
    return counts


def _spread(vectors: Floats) -> float | None:
    """Return the mean cosine distance over pairs: 1 - (|sum of units|^2 - n) / (n (n - 1)), in time linear in n."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(lengths > 0, lengths, 1)
    n = len(units)
    if n < 2:
        return None
    return float(1 - (np.square(units.sum(axis=0)).sum() - np.square(units).sum()) / (n * (n - 1)))
