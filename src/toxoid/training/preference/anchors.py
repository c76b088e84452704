"""Anchors: examples on which the model is held where it is, taken in turn."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from toxoid.training.examples import TokenisedExample


class AnchorRotation:
    """Which anchors go with the group at a position of the training.

    The anchors are taken in rounds, each a permutation of all of them, so that none comes a second time before
    every other has come once, however many groups there are. A pure function of seed and position: a resumed
    training takes the same ones.

    Args:
        anchors: The anchors; may be empty.
        per_group: How many go with a group on average.
        seed: Of the permutations.
    """

    def __init__(self, anchors: Sequence[TokenisedExample], *, per_group: float, seed: int) -> None:
        self._anchors = anchors
        self._per_group = Fraction(per_group).limit_denominator(10_000)  # exact: floats would drift
        self._seed = seed
        self._round = -1
        self._order: list[int] = []

    def at(self, position: int) -> list[TokenisedExample]:
        """Return the anchors of the ``position``-th group of the training, counted from 0."""
        if not self._anchors:
            return []
        first, last = int(position * self._per_group), int((position + 1) * self._per_group)
        return [self._anchors[self._index(number)] for number in range(first, last)]

    def _index(self, number: int) -> int:
        turn, place = divmod(number, len(self._anchors))
        if turn != self._round:
            random = np.random.Generator(np.random.Philox(key=[self._seed, turn]))
            self._round, self._order = turn, random.permutation(len(self._anchors)).tolist()
        return self._order[place]
