"""Chooses which changed replies a page shows: some of every kind, and no more than fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from markupsafe import Markup

from toxoid.audit.results import Comparison, Flip

HEADLINE_SHOWN = 40
OTHER_SHOWN = 10


@dataclass(frozen=True, slots=True)
class FlipSection:
    """The changed replies of one comparison. ``totals`` counts all of them by direction, shown or not."""

    before: str
    after: str
    shown: tuple[Markup, ...]
    totals: Mapping[str, int]

    @property
    def total(self) -> int:
        """All changed replies."""
        return sum(self.totals.values())

    @property
    def hidden(self) -> int:
        """Changed replies that the page does not show."""
        return max(0, self.total - len(self.shown))


def flip_sections(
    comparisons: Sequence[Comparison], *, render: Callable[[Flip, Comparison], Markup], budget: int
) -> list[FlipSection]:
    """Return the changed replies to show, the headline comparison's first.

    Args:
        comparisons: All comparisons of the run.
        render: Makes the markup of one flip.
        budget: Bytes that all flips together may take. What does not fit is left out; smaller ones go in.
    """
    sections = []
    for comparison in sorted(comparisons, key=lambda one: not one["headline"]):
        most = HEADLINE_SHOWN if comparison["headline"] else OTHER_SHOWN
        shown: list[Markup] = []
        for flip in _spread(comparison["flips"]):
            if len(shown) == most:
                break
            markup = render(flip, comparison)
            size = len(markup.encode())
            if size <= budget:
                shown.append(markup)
                budget -= size
        if comparison["flips"] or sum(comparison["flips_total"].values()):
            sections.append(_section(comparison, shown))
    return sections


def has_evidence(comparisons: Sequence[Comparison]) -> bool:
    """Tell whether a judge has pointed at what decided in any of the changed replies."""
    flips = (flip for comparison in comparisons for flip in comparison["flips"])
    return any(flip.get("before_evidence") or flip.get("after_evidence") for flip in flips)


def _section(comparison: Comparison, shown: Sequence[Markup]) -> FlipSection:
    totals = dict(comparison["flips_total"])
    missing = len(comparison["flips"]) - sum(totals.values())
    if missing > 0:
        totals["other"] = missing
    return FlipSection(comparison["before"], comparison["after"], tuple(shown), totals)


def _spread(flips: Sequence[Flip]) -> Iterator[Flip]:
    """Yield the flips in turn from every task and direction, so that a cut leaves some of each."""
    groups: dict[Any, list[Flip]] = {}
    for flip in flips:
        groups.setdefault((flip["task"], flip.get("direction")), []).append(flip)
    for turn in zip_longest(*groups.values()):
        yield from (flip for flip in turn if flip is not None)
