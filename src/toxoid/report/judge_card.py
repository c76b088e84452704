"""Turns a judge's card into what people see of it: pure, without any markup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toxoid.report.facts import Fact, judge_facts
from toxoid.report.format import DASH, count, interval, number, percent
from toxoid.report.text import one_line
from toxoid.report.view import MAX_CATEGORIES, Cell
from toxoid.stats.agreement import Estimate

NOTHING = Estimate(None, None, None)
"""A number that is not defined, or was not measured."""

_GROUPS = {
    "by_category": "By category",
    "by_source": "By source",
    "by_length": "By length",
    "by_group": "By group",
}


@dataclass(frozen=True, slots=True)
class GroupLine:
    """How far a judge agrees with the labels of one group."""

    name: str
    n: str
    unscored: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class GroupTable:
    """The groups of one kind; ``hidden`` are left out."""

    title: str
    lines: tuple[GroupLine, ...]
    hidden: int = 0


def card_sentence(card: Mapping[str, Any]) -> str:
    """Return what the judge's card comes down to."""
    if not card.get("n"):
        return "The judge was not measured: its card holds no labels."
    accuracy, found, spared = (
        rate_cell(estimate_of(card.get(name))) for name in ("accuracy", "sensitivity", "specificity")
    )
    aspect = one_line(card.get("aspect") or "a hit", limit=40)
    return (
        f"The judge agrees with {accuracy.rate} ({accuracy.interval}) of {count(card['n'])} labels: it finds "
        f"{found.rate} of what is labelled {aspect}, and leaves {spared.rate} of the rest alone."
    )


def card_facts(card: Mapping[str, Any]) -> list[Fact]:
    """Return a judge's card line by line, with what a classifier's card holds beyond :func:`judge_facts`."""
    more = [
        Fact("AUROC", number(card.get("auroc")), "1 is perfect, 0.5 is chance"),
        Fact("Calibration error", number(card.get("ece")), "mean distance of claimed from observed share"),
        Fact("Threshold", number(card.get("threshold"), decimals=3), "probability from which on it is a hit"),
        Fact("Licence of the labels", one_line(card.get("licence") or "", limit=120)),
        Fact("Measured", one_line(card.get("date") or "", limit=40)),
    ]
    return [*judge_facts(card), *(fact for fact in more if fact.value not in ("", DASH))]


def group_line(name: str, agreement: Mapping[str, Any]) -> GroupLine:
    """Return a group's agreement as written: accuracy, sensitivity, specificity, kappa, AUROC, calibration error."""
    rates = [rate_cell(estimate_of(agreement.get(key))) for key in ("accuracy", "sensitivity", "specificity")]
    scores = [Estimate(agreement.get(key), None, None) for key in ("auroc", "ece")]
    return GroupLine(
        one_line(name, limit=60),
        count(agreement.get("n")),
        count(agreement.get("n_unscored")),
        (*rates, number_cell(estimate_of(agreement.get("kappa"))), *map(number_cell, scores)),
    )


def group_tables(card: Mapping[str, Any]) -> list[GroupTable]:
    """Return the card's tables; a single group says nothing that the card does not."""
    found = [(title, card.get(key) or {}) for key, title in _GROUPS.items()]
    return [
        GroupTable(
            title,
            tuple(group_line(name, groups[name]) for name in [*groups][:MAX_CATEGORIES]),
            max(0, len(groups) - MAX_CATEGORIES),
        )
        for title, groups in found
        if len(groups) > 1
    ]


def estimate_of(found: Mapping[str, Any] | None) -> Estimate:
    """Return an estimate that was written as JSON; nothing where there is none."""
    return Estimate(**found) if found else NOTHING


def rate_cell(estimate: Estimate) -> Cell:
    """Return a share with its interval, in per cent."""
    return _cell(estimate, percent(estimate.value), interval(estimate.ci_low, estimate.ci_high))


def number_cell(estimate: Estimate) -> Cell:
    """Return a plain number with its interval."""
    ends = f"{number(estimate.ci_low)} to {number(estimate.ci_high)}"
    return _cell(estimate, number(estimate.value), ends)


def _cell(estimate: Estimate, value: str, ends: str) -> Cell:
    return Cell(value, "" if estimate.ci_low is None or estimate.ci_high is None else ends, "")
