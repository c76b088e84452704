"""Reads two systems' scored items side by side and keeps what rates need, with the texts of some changed replies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from itertools import count
from sys import intern
from typing import Any

from toxoid.audit.by_attack import attack_of, named
from toxoid.audit.items import Item
from toxoid.audit.rates import _flip, value
from toxoid.audit.results import Flip
from toxoid.audit.run import Scored
from toxoid.audit.tasks import task_spec
from toxoid.data.schemas import Request
from toxoid.judges.base import Verdict
from toxoid.store.keys import content_key


@dataclass(slots=True)
class Slimmer:
    """Makes scored items small: equal verdicts are one object, texts are left out.

    Replies of items that are begun keep theirs, of which the words are counted.
    """

    _verdicts: dict[Verdict, Verdict] = field(default_factory=dict)

    def slim(self, entry: Scored) -> Scored:
        """Return the item as rates, curves and tests need it."""
        old = entry.item
        request = Request(intern(old.request.id), "", old.request.kind, intern(old.request.category))
        item = Item(intern(old.task), request, (), "", intern(old.attack), old.cut)
        attack = attack_of(old)
        verdicts: dict[Any, tuple[Verdict, ...]] = {
            intern(aspect): tuple(self._verdicts.setdefault(verdict, verdict) for verdict in found)
            for aspect, found in entry.verdicts.items()
        }
        return Scored(
            named(item, intern(attack)) if attack else item, entry.completions if old.cut else (), verdicts
        )


@dataclass(slots=True)
class ShownFlips:
    """Collects changed replies: counts them all, and keeps up to ``most`` of each task and direction.

    Those of the smallest hash are kept: a fair and stable choice.
    """

    most: int
    totals: dict[str, int] = field(default_factory=lambda: {"better": 0, "worse": 0})
    _kept: dict[tuple[str, str], list[tuple[int, int, Flip]]] = field(default_factory=dict)
    _number: Iterator[int] = field(default_factory=count)

    def add(self, flip: Flip) -> None:
        """Take one in."""
        way = flip["direction"]
        self.totals[way] += 1
        kept = self._kept.setdefault((flip["task"], way), [])
        rank = int(content_key(flip["item"], flip["attack"], flip["after_reply"]), 16)
        (heappush if len(kept) < self.most else heappushpop)(kept, (-rank, -next(self._number), flip))

    def shown(self) -> list[Flip]:
        """Return the kept ones, by task and direction in the order in which these came, the smallest hash first."""
        return [
            flip
            for kept in self._kept.values()
            for _, _, flip in sorted(kept, key=lambda one: (-one[0], -one[1]))
        ]


def read_side_by_side(
    before: Iterable[Scored], after: Iterable[Scored], *, tasks: Sequence[str], most: int
) -> tuple[list[Scored], list[Scored], ShownFlips]:
    """Return both sides' items without texts, and the replies whose verdict changed.

    Args:
        before: One system's items, read one by one.
        after: The other's; those of ``tasks`` are the same items in the same order.
        tasks: Asked of both.
        most: Changed replies to keep by task and direction.
    """
    slimmer, flips = Slimmer(), ShownFlips(most)
    sides: tuple[list[Scored], list[Scored]] = ([], [])
    for pair in _paired(before, after, frozenset(tasks)):
        for side, entry in zip(sides, pair, strict=True):
            if entry is not None:
                side.append(slimmer.slim(entry))
        old, new = pair
        if old is not None and new is not None:
            for flip in changed(old, new):
                flips.add(flip)
    return (*sides, flips)


def changed(before: Scored, after: Scored) -> Iterator[Flip]:
    """Yield the replies to one item whose verdict on their task's headline metric changed, sample by sample."""
    metric = task_spec(before.item.task).metrics[0]
    if _place(before.item) != _place(after.item) or metric.aspect not in before.verdicts:
        return
    pairs = zip(before.verdicts[metric.aspect], after.verdicts[metric.aspect], strict=False)
    for sample, (old, new) in enumerate(pairs):
        values = value(old, metric), value(new, metric)
        if None not in values and values[0] != values[1]:
            yield _flip(before, after, sample, metric, values[1] == 1.0)


def _place(item: Item) -> tuple[Any, ...]:
    return (item.task, item.request.id, item.conversation, item.prefill, item.cut)


def _paired(
    before: Iterable[Scored], after: Iterable[Scored], tasks: frozenset[str]
) -> Iterator[tuple[Scored | None, Scored | None]]:
    """Yield the items of ``tasks`` in pairs, and those that one side has alone with nothing beside them."""
    left, right = iter(before), iter(after)
    for old in left:
        if old.item.task not in tasks:
            yield old, None
            continue
        for new in right:
            if new.item.task in tasks:
                yield old, new
                break
            yield None, new
    for new in right:
        yield None, new
