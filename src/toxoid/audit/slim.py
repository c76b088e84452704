"""Keeps of scored items what rates need, and of two systems' items side by side the texts of some changed replies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from itertools import count, zip_longest
from sys import intern
from typing import Any

from toxoid.audit.items import Item
from toxoid.audit.rates import value
from toxoid.audit.results import Flip
from toxoid.audit.run import Scored, shown_before
from toxoid.audit.tasks import Metric, task_spec
from toxoid.data.schemas import Request
from toxoid.judges.base import Aspect, Span, Verdict
from toxoid.store.keys import content_key


@dataclass(slots=True)
class Slimmer:
    """Makes scored items small: texts, scores and reasons are left out, and what is then equal is one object.

    Replies of items that are begun keep theirs, of which the words are counted.

    Attributes:
        kept: What has passed, made small.
        reply_tokens: Tokens of all replies that have passed.
    """

    kept: list[Scored] = field(default_factory=list)
    reply_tokens: int = 0
    _requests: dict[tuple[str, str, str], Request] = field(default_factory=dict)
    _verdicts: dict[tuple[Any, ...], Mapping[Aspect, tuple[Verdict, ...]]] = field(default_factory=dict)

    def passing(self, scored: Iterable[Scored]) -> Iterator[Scored]:
        """Yield the items as they come, and keep them made small."""
        for entry in scored:
            self.kept.append(self.slim(entry))
            self.reply_tokens += sum(done.completion_tokens for done in entry.completions)
            yield entry

    def slim(self, entry: Scored) -> Scored:
        """Return the item as rates, curves and tests need it."""
        old = entry.item
        item = Item(
            task=intern(old.task),
            request=self._request(old.request),
            conversation=(),
            attack=intern(old.attack),
            cut=old.cut,
            campaign=old.campaign,
        )
        return Scored(item, entry.completions if old.cut else (), self._shared(entry.verdicts))

    def _request(self, old: Request) -> Request:
        key = (old.id, old.kind, old.category)
        if key not in self._requests:
            self._requests[key] = Request(old.id, "", old.kind, intern(old.category))
        return self._requests[key]

    def _shared(self, verdicts: Mapping[Aspect, tuple[Verdict, ...]]) -> Mapping[Aspect, tuple[Verdict, ...]]:
        key = tuple(
            (aspect, tuple((one.outcome, one.position) for one in found))
            for aspect, found in verdicts.items()
        )
        if key not in self._verdicts:
            self._verdicts[key] = {
                aspect: tuple(Verdict(one.outcome, position=one.position) for one in found)
                for aspect, found in verdicts.items()
            }
        return self._verdicts[key]


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
        rank = int(content_key(flip["item"], flip["attack"], flip.get("variant"), flip["after_reply"]), 16)
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
    """Return both sides' items made small, and the replies whose verdict changed.

    Args:
        before: One system's items, read one by one.
        after: The other's; those of ``tasks`` are the same items in the same order.
        tasks: Asked of both.
        most: Changed replies to keep by task and direction.
    """
    slimmer = Slimmer()
    sides: tuple[list[Scored], list[Scored]] = ([], [])

    def kept(entries: Iterable[Scored], side: list[Scored]) -> Iterator[Scored]:
        for entry in entries:
            side.append(slimmer.slim(entry))
            yield entry

    flips = shown_flips(kept(before, sides[0]), kept(after, sides[1]), tasks=tasks, most=most)
    return (*sides, flips)


def shown_flips(
    before: Iterable[Scored], after: Iterable[Scored], *, tasks: Sequence[str], most: int
) -> ShownFlips:
    """Return the replies whose verdict changed; see :func:`read_side_by_side`."""
    flips = ShownFlips(most)
    for old, new in zip_longest(_only(before, tasks), _only(after, tasks)):
        for flip in changed(old, new) if old and new else ():
            flips.add(flip)
    return flips


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


def _flip(before: Scored, after: Scored, sample: int, metric: Metric, holds: bool) -> Flip:
    item = before.item
    return {
        "task": item.task,
        "metric": metric.name,
        "direction": "better" if holds == (metric.better == "higher") else "worse",
        "item": item.request.id,
        "category": item.request.category,
        "attack": item.attack,
        "variant": item.variant,
        "prompt": item.conversation[-1].content,
        "prefill": item.prefill,
        "before_reply": before.completions[sample].text,
        "after_reply": after.completions[sample].text,
        "before_outcome": before.verdicts[metric.aspect][sample].reason,
        "after_outcome": after.verdicts[metric.aspect][sample].reason,
        "before_evidence": _evidence(item, before.verdicts[metric.aspect][sample]),
        "after_evidence": _evidence(item, after.verdicts[metric.aspect][sample]),
    }


def _evidence(item: Item, verdict: Verdict) -> list[Span]:
    """Return the evidence as places in the reply's text, before which a judge has seen the trigger."""
    shift = len(shown_before(item))
    return [(max(0, start - shift), end - shift) for start, end in verdict.evidence if end > shift]


def _place(item: Item) -> tuple[Any, ...]:
    return (item.task, item.request.id, item.attack, item.conversation, item.prefill, item.cut)


def _only(scored: Iterable[Scored], tasks: Sequence[str]) -> Iterator[Scored]:
    return (entry for entry in scored if entry.item.task in tasks)
