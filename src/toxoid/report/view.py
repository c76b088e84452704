"""Turns results into what a page shows, in the order it shows it: pure, without any markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from toxoid.audit.by_attack import PREFIX
from toxoid.audit.results import RateRow, Results, Row, System
from toxoid.audit.tasks import HARMLESS, HELPFUL, OVER_REFUSED, VALID_SAFE
from toxoid.audit.verdict import ALL, Finding, audit_sentences, finding, headline_rows, verdict_sentences
from toxoid.report.format import (
    DASH,
    finite,
    interval,
    metric_title,
    missing_reason,
    p_value,
    percent,
    points,
    share,
    task_title,
)

MAX_CATEGORIES = 40
MAX_SYSTEMS = 8
MAX_FIGURES = 9

_STATES = {Finding.BETTER: "better", Finding.WORSE: "worse", Finding.CHANGED: "changed"}


@dataclass(frozen=True, slots=True)
class Line:
    """A paired difference as written: one table row, or one key figure."""

    task: str
    metric: str
    category: str
    before: str
    after: str
    difference: str
    interval: str
    p: str
    n: str
    state: str
    note: str
    reason: str
    row: Row


@dataclass(frozen=True, slots=True)
class Cell:
    """A rate of one system as written."""

    rate: str
    interval: str
    note: str


@dataclass(frozen=True, slots=True)
class CategoryTable:
    """The parts of one metric: compared (``lines``), or of a single system (``rates``).

    ``by`` says what they are: categories of requests, or attacks. ``first`` marks the task's first metric.
    """

    task: str
    metric: str
    by: str
    first: bool
    lines: tuple[Line, ...] = ()
    rates: tuple[RateRow, ...] = ()
    hidden: int = 0


def level_of(results: Results) -> float:
    """Return the confidence level that the run's recipe asked for, 0.95 where it does not say."""
    recipe = results["meta"].get("fingerprint", {}).get("recipe", {})
    section = recipe.get("statistics", {}) if isinstance(recipe, Mapping) else {}
    level = section.get("level", 0.95) if isinstance(section, Mapping) else 0.95
    return level if isinstance(level, float) and 0 < level < 1 else 0.95


def sentences(results: Results) -> list[str]:
    """Return the verdict of the headline comparison, or of the audit if nothing was compared.

    Of an audit's rates the first is told: all of them stand beside it as numbers.
    Whether the trade is significant follows the first two sentences: what was gained, and what that cost.
    The verdict kept in the results is shown as it is where it is not the one of these rows.
    """
    level = level_of(results)
    if not results["rows"]:
        systems = results["systems"]
        if not systems:
            return ["Nothing was measured."]
        return audit_sentences(systems[0]["rates"], level=level, further=False)
    found = verdict_sentences(results["rows"], level=level)
    headline = next((one for one in results["comparisons"] if one["headline"]), None)
    kept = headline["verdict"] if headline else ""
    weighed = [headline["trade"]["sentence"]] if headline and "trade" in headline else []
    told = found if kept in ("", " ".join(found)) else [kept]
    return [*told[:2], *weighed, *told[2:]]


def shown_systems(results: Results) -> list[System]:
    """Return the two systems of the headline comparison, or the one that was audited."""
    headline = next((one for one in results["comparisons"] if one["headline"]), None)
    if headline is None:
        return results["systems"][:1]
    by_name = {system["name"]: system for system in results["systems"]}
    return [by_name[name] for name in (headline["before"], headline["after"]) if name in by_name]


def lines(rows: Iterable[Row], results: Results) -> list[Line]:
    """Return the rows as written."""
    tasks, level = results["meta"].get("tasks", {}), level_of(results)
    return [_line(row, tasks, level) for row in rows]


def _line(row: Row, tasks: Mapping[str, Any], level: float) -> Line:
    found = finding(row, level=level)
    measured = found is not Finding.UNMEASURED
    return Line(
        task=task_title(row["task"], tasks),
        metric=metric_title(row["metric"]),
        category=row["category"].removeprefix(PREFIX),
        before=percent(row["before"]),
        after=percent(row["after"]),
        difference=points(row["difference"]),
        interval=interval(row["ci_low"], row["ci_high"]),
        p=p_value(row["p_value"] if row["p_adjusted"] is None else row["p_adjusted"]),
        n=f"{row['n']:,}",
        state=_STATES.get(found, "unclear"),
        note=_note(found, row),
        reason="" if measured else missing_reason(row),
        row=row,
    )


def _note(found: Finding, row: Row) -> str:
    if found is Finding.PROVES_NOTHING:
        return "proves nothing: no attack landed before"
    if found is Finding.CHANGED:
        return "changed"
    return str(found)


def overall(rows: Iterable[Row]) -> list[Row]:
    """Return the rows over all categories."""
    return [row for row in rows if row["category"] == ALL]


def by_task(written: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    """Return the lines grouped by task, in their order."""
    return [(task, list(group)) for task, group in groupby(written, key=lambda line: line.task)]


def figures(results: Results) -> list[Line]:
    """Return the differences to be shown large: what got worse in any case, then a headline rate per task."""
    rows, level = overall(results["rows"]), level_of(results)
    worse = [row for row in rows if finding(row, level=level) is Finding.WORSE]
    room = max(0, MAX_FIGURES - len(worse))
    others = sorted((row for row in headline_rows(rows) if row not in worse), key=_weight)[:room]
    return lines([row for row in rows if row in others or row in worse[:MAX_FIGURES]], results)


def _weight(row: Row | RateRow) -> int:
    """Return the place of a rate where not all can be shown: harm first, then what keeping from it may cost."""
    known = [HARMLESS.name, OVER_REFUSED.name, HELPFUL.name]
    return known.index(row["metric"]) if row["metric"] in known else len(known)


def rate_figures(results: Results) -> list[tuple[str, str, Cell]]:
    """Return task, metric and rate of an audited system, to be shown large; none after a comparison."""
    if results["rows"] or not results["systems"]:
        return []
    tasks = results["meta"].get("tasks", {})
    rates = headline_rows([rate for rate in results["systems"][0]["rates"] if rate["category"] == ALL])
    shown = sorted(rates, key=_weight)[:MAX_FIGURES]
    return [
        (task_title(rate["task"], tasks), metric_title(rate["metric"]), cell(rate))
        for rate in rates
        if rate in shown
    ]


def category_tables(rows: Sequence[Row], results: Results) -> list[CategoryTable]:
    """Return the compared categories and attacks, metric by metric.

    Metrics with a single category are left out, and those that are made of two others, whose tables stand there.
    """
    found: list[CategoryTable] = []
    for key, group in _by_metric(rows).items():
        table = _category_table(key, len(group), results, found)
        found.append(replace(table, lines=tuple(lines(group[:MAX_CATEGORIES], results))))
    return found


def rate_tables(rates: Sequence[RateRow], results: Results) -> list[CategoryTable]:
    """Return the parts of a single system's rates; the counterpart of :func:`category_tables` in an audit."""
    found: list[CategoryTable] = []
    for key, group in _by_metric(rates).items():
        shown = [row | {"category": row["category"].removeprefix(PREFIX)} for row in group[:MAX_CATEGORIES]]
        found.append(replace(_category_table(key, len(group), results, found), rates=tuple(shown)))
    return found


def _category_table(
    key: tuple[str, str, str], size: int, results: Results, earlier: Sequence[CategoryTable]
) -> CategoryTable:
    task, metric, by = key
    title = task_title(task, results["meta"].get("tasks", {}))
    first = not any((table.task, table.by) == (title, by) for table in earlier)
    return CategoryTable(title, metric_title(metric), by, first, hidden=max(0, size - MAX_CATEGORIES))


def _by_metric(rows: Sequence[Any]) -> dict[tuple[str, str, str], list[Any]]:
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for row in rows:
        if row["category"] != ALL and row["metric"] != VALID_SAFE.name:
            by = "attack" if row["category"].startswith(PREFIX) else "category"
            groups.setdefault((row["task"], row["metric"], by), []).append(row)
    return {key: group for key, group in groups.items() if len(group) > 1}


def systems_table(results: Results) -> list[tuple[str, list[tuple[str, list[Cell]]]]]:
    """Return all systems side by side: by task, each metric with one cell per system."""
    shown = results["systems"][:MAX_SYSTEMS]
    tables = [{(r["task"], r["metric"]): r for r in s["rates"] if r["category"] == ALL} for s in shown]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    tasks = results["meta"].get("tasks", {})
    return [
        (
            task_title(task, tasks),
            [(metric_title(key[1]), [cell(table.get(key)) for table in tables]) for key in group],
        )
        for task, group in groupby(sorted(keys, key=lambda k: _first(keys, k[0])), key=lambda key: key[0])
    ]


def _first(keys: Sequence[tuple[str, str]], task: str) -> int:
    return next(index for index, key in enumerate(keys) if key[0] == task)


def cell(rate: RateRow | None) -> Cell:
    """Return a rate as written; a dash with its reason where there is none."""
    if rate is None:
        return Cell(DASH, "", "not asked")
    if finite(rate["rate"]) is None:
        return Cell(DASH, "", "no reply was scored" if rate["n_replies"] else "no item")
    note = ""
    if rate["unscored"]:
        bounds = f"between {percent(rate['low_bound'])} and {percent(rate['high_bound'])}"
        note = f"{share(rate['unscored'], rate['n_replies'])} unscored: {bounds}"
    return Cell(percent(rate["rate"]), interval(rate["ci_low"], rate["ci_high"]), note)
