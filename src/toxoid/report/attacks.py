"""What the page says of attacks: their success within k tries, and which of them prove nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from toxoid.audit.by_attack import PREFIX, landing, never_landed
from toxoid.audit.results import Results, SuccessRow, System
from toxoid.audit.tasks import CAMPAIGNS, HARMLESS, PLAYED, TASKS
from toxoid.audit.verdict import ALL
from toxoid.report import view
from toxoid.report.format import interval, percent, task_title
from toxoid.report.view import Cell, shown_systems

_Success: TypeAlias = dict[tuple[str, int], SuccessRow]
"""Of a system: by category and number of tries."""


@dataclass(frozen=True, slots=True)
class SuccessTable:
    """Success of the attacks of one task: ``tries`` are its columns; a row has cells for each system."""

    task: str
    tries: tuple[int, ...]
    rows: tuple[tuple[str, tuple[tuple[str, tuple[Cell, ...]], ...]], ...]


@dataclass(frozen=True, slots=True)
class Attacks:
    """The section: what proves nothing, and a table per task."""

    sentences: tuple[str, ...]
    tables: tuple[SuccessTable, ...]


def attacks(results: Results) -> Attacks | None:
    """Return the section on attacks, or ``None`` where the results count no success of one."""
    systems = shown_systems(results)
    tasks = dict.fromkeys(row["task"] for system in systems for row in system.get("success", []))
    if not tasks:
        return None
    tables = tuple(_table(task, systems, results) for task in tasks)
    return Attacks(tuple(proving_nothing(results)), tables)


def sentences(results: Results) -> list[str]:
    """Return the verdict's sentences; in that of an audit, the strongest attacks follow the first one."""
    first, *others = view.sentences(results)
    return [first, *([] if results["rows"] else _strongest(results)), *others]


def _strongest(results: Results) -> list[str]:
    """Return a sentence on what lands most often on the system: with a single try, and going on to the end."""
    rows = [row for system in results["systems"][:1] for row in system.get("success", []) if row["rate"]]
    played = [row for row in rows if row["task"] == CAMPAIGNS]
    asked = [row for row in rows if row["k"] == 1 and landing(row["task"]) == HARMLESS]
    once = [row for row in asked if row["task"] not in PLAYED and not _is_sum(row, rows)]
    found = []
    if len(once) > 1:
        best = max(once, key=_rate)
        found.append(f"{_name(best, results)} lands most often, on {_share(best)} of requests with one try")
    if played:
        best = max(played, key=lambda row: (_rate(row), -row["k"]))
        found.append(f"{_name(best, results)} lands on {_share(best)} within {_questions(best['k'])}")
    return [f"Of the attacks {', and '.join(found)}."] if found else []


def _is_sum(row: SuccessRow, rows: Sequence[SuccessRow]) -> bool:
    """Tell whether a row is that of several attacks together."""
    return row["category"] == ALL and any(
        other["task"] == row["task"] and other["category"] != ALL for other in rows
    )


def _rate(row: SuccessRow) -> float:
    return row["rate"] or 0.0


def _name(row: SuccessRow, results: Results) -> str:
    return _title(row["category"], row["task"], results, alone=True)


def _questions(k: int) -> str:
    return f"{k} question{'s' if k > 1 else ''}"


def _share(row: SuccessRow) -> str:
    return f"{percent(row['rate'])} (interval {interval(row['ci_low'], row['ci_high'])})"


def proving_nothing(results: Results) -> list[str]:
    """Return a sentence for each task whose results name attacks that never landed on the first system."""
    if not results["systems"]:
        return []
    first, tasks = results["systems"][0], results["meta"].get("tasks", {})
    nothing = (
        "so that this proves nothing about a defence"
        if results["rows"]
        else "which shows a strong model or a weak attack: only a system on which it lands can tell"
    )
    return [
        f"{task_title(task, tasks)}: {', '.join(names)} never landed on {first['label']}, {nothing}."
        for task, names in never_landed(first["rates"]).items()
    ]


def _table(task: str, systems: Sequence[System], results: Results) -> SuccessTable:
    found: list[_Success] = [
        {(row["category"], row["k"]): row for row in system.get("success", []) if row["task"] == task}
        for system in systems
    ]
    names = list(dict.fromkeys(category for rows in found for category, _ in rows))
    tries = sorted({k for rows in found for _, k in rows})
    if task == CAMPAIGNS:
        found = [_to_the_end(rows, tries) for rows in found]
        tries = [k for k in tries if all((name, k) in rows for rows in found for name, _ in rows)]
    titles = [_title(name, task, results, alone=len(names) == 1) for name in names]
    cells = [
        tuple(
            (system["label"], tuple(_cell(rows.get((name, k))) for k in tries))
            for system, rows in zip(systems, found, strict=True)
        )
        for name in names
    ]
    return SuccessTable(
        task_title(task, results["meta"].get("tasks", {})),
        tuple(tries),
        tuple(zip(titles, cells, strict=True)),
    )


def _to_the_end(rows: _Success, tries: Sequence[int]) -> _Success:
    """Return a system's success also at more questions than its campaigns took: no more of them had landed by then."""
    last: dict[str, int] = {}
    for name, k in rows:
        last[name] = max(k, last.get(name, 0))
    return rows | {(name, k): rows[name, end] for name, end in last.items() for k in tries if k > end}


def _title(name: str, task: str, results: Results, *, alone: bool) -> str:
    if name.startswith(PREFIX):
        return name.removeprefix(PREFIX)
    return _only(task, results) if alone else "all attacks"


def _only(task: str, results: Results) -> str:
    """Return the name of a task's single attack: what the recipe names, or the task's own."""
    recipe = results["meta"].get("fingerprint", {}).get("recipe", {})
    chosen = recipe.get("audit", {}).get("attacks", {}).get(task)
    return str(chosen[0]) if chosen else TASKS[task].attack


def _cell(row: SuccessRow | None) -> Cell:
    """Return a success rate as written; nothing where no request has as many tries."""
    if row is None:
        return Cell("", "", "")
    return Cell(percent(row["rate"]), interval(row["ci_low"], row["ci_high"]), "")
