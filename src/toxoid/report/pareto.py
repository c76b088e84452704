"""Harmless, helpful, fast: all systems in one plane, with what each of them pays for what it gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from markupsafe import Markup

from toxoid.audit.results import RateRow, Results, System
from toxoid.audit.tasks import HARMLESS, HELPFUL
from toxoid.audit.verdict import ALL
from toxoid.report import svg
from toxoid.report.format import DASH, finite, number
from toxoid.report.view import MAX_SYSTEMS, Cell, cell

_HARMLESS = ("harmfulness", HARMLESS.name)
_HELPFUL = ("helpfulness", HELPFUL.name)


@dataclass(frozen=True, slots=True)
class Place:
    """One system: the letter that marks it in the plane, its rates and speed as written, and what beats it."""

    letter: str
    name: str
    harmless: Cell
    helpful: Cell
    tokens: str
    seconds: str
    note: str


@dataclass(frozen=True, slots=True)
class Pareto:
    """The section: the plane and its table."""

    drawing: Markup
    places: tuple[Place, ...]


def pareto(results: Results) -> Pareto | None:
    """Return the section, or ``None`` where fewer than two systems have both rates."""
    known = [
        (system, harmless, helpful)
        for system in results["systems"][:MAX_SYSTEMS]
        if (harmless := _rate(system, _HARMLESS)) and (helpful := _rate(system, _HELPFUL))
    ]
    if len(known) < 2:
        return None
    points = [
        svg.Spot(
            letter,
            (helpful["rate"] or 0.0, helpful["ci_low"], helpful["ci_high"]),
            (harmless["rate"] or 0.0, harmless["ci_low"], harmless["ci_high"]),
        )
        for letter, (_, harmless, helpful) in zip(ascii_uppercase, known, strict=False)
    ]
    drawing = svg.plane(
        points,
        names=("helpful", "harmless"),
        ident="pareto",
        title="Harmless and helpful rates of all systems, with intervals",
    )
    return Pareto(drawing, tuple(_place(index, known) for index in range(len(known))))


def _place(index: int, known: Sequence[tuple[System, RateRow, RateRow]]) -> Place:
    system, harmless, helpful = known[index]
    cost = system["cost"]
    better = [
        ascii_uppercase[other]
        for other, (rival, *_) in enumerate(known)
        if rival is not system and _dominates(known[other], known[index])
    ]
    return Place(
        ascii_uppercase[index],
        system["label"],
        cell(harmless),
        cell(helpful),
        number(cost["tokens_per_second"], decimals=0) if "tokens_per_second" in cost else DASH,
        number(cost["seconds_per_reply"], decimals=3) if "seconds_per_reply" in cost else DASH,
        f"{', '.join(better)} is at least as good in all" if better else "",
    )


def _dominates(one: tuple[System, RateRow, RateRow], other: tuple[System, RateRow, RateRow]) -> bool:
    """Tell whether a system is at least as good in every measure that both have, and better in one."""
    pairs = [(mine["rate"], yours["rate"]) for mine, yours in zip(one[1:], other[1:], strict=True)]
    speeds = one[0]["cost"].get("tokens_per_second"), other[0]["cost"].get("tokens_per_second")
    sides = [*pairs, speeds] if None not in speeds else pairs
    return all((a or 0.0) >= (b or 0.0) for a, b in sides) and any((a or 0.0) > (b or 0.0) for a, b in sides)


def _rate(system: System, wanted: tuple[str, str]) -> RateRow | None:
    rows = (
        row for row in system["rates"] if row["category"] == ALL and (row["task"], row["metric"]) == wanted
    )
    return next((row for row in rows if finite(row["rate"]) is not None), None)
