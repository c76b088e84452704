"""What the page says of attacks: their success within k tries, and which of them prove nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toxoid.audit.by_attack import PREFIX, never_landed
from toxoid.audit.results import Results, SuccessRow, System
from toxoid.report.format import interval, percent, task_title
from toxoid.report.view import Cell, shown_systems


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


def proving_nothing(results: Results) -> list[str]:
    """Return a sentence for each task whose results name attacks that never landed on the first system."""
    if not results["systems"]:
        return []
    first = results["systems"][0]
    return [
        f"{task_title(task, results['meta'].get('tasks', {}))}: {', '.join(names)} never landed on {first['label']}, "
        f"so {'this attack proves' if len(names) == 1 else 'these attacks prove'} nothing about a defence."
        for task, names in never_landed(first["rates"]).items()
    ]


def _table(task: str, systems: Sequence[System], results: Results) -> SuccessTable:
    found = [
        {(row["category"], row["k"]): row for row in system.get("success", []) if row["task"] == task}
        for system in systems
    ]
    names = dict.fromkeys(category for rows in found for category, _ in rows)
    tries = tuple(sorted({k for rows in found for _, k in rows}))
    several = len(names) > 1
    return SuccessTable(
        task_title(task, results["meta"].get("tasks", {})),
        tries,
        tuple(
            (
                name.removeprefix(PREFIX)
                if name.startswith(PREFIX)
                else "all attacks"
                if several
                else "the attack",
                tuple(
                    (system["label"], tuple(_cell(rows.get((name, k))) for k in tries))
                    for system, rows in zip(systems, found, strict=True)
                ),
            )
            for name in names
        ),
    )


def _cell(row: SuccessRow | None) -> Cell:
    """Return a success rate as written; nothing where no request has as many tries."""
    if row is None:
        return Cell("", "", "")
    return Cell(percent(row["rate"]), interval(row["ci_low"], row["ci_high"]), "")
