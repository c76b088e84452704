"""Shows results in a terminal: the verdict, and one table of the overall rows."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from toxoid.audit.results import RateRow, Results, System
from toxoid.audit.verdict import ALL
from toxoid.report import view
from toxoid.report.attacks import proving_nothing, sentences
from toxoid.report.format import metric_title, task_title
from toxoid.report.html import checked
from toxoid.report.text import one_line, visible

_STYLES = {"better": "bold blue", "worse": "bold yellow"}


def summary(results: Mapping[str, Any]) -> Group:
    """Return what a run ends with: its verdict, its table, its warnings.

    Raises:
        UsageError: ``results`` does not have the layout of ``results.json``.
    """
    whole = checked(results)
    parts: list[RenderableType] = [
        Text(visible(sentence, limit=2000), style="bold" if first else "")
        for first, sentence in zip((True, *[False] * 50), sentences(whole), strict=False)
    ]
    parts += [Text(visible(sentence, limit=2000)) for sentence in proving_nothing(whole)]
    if whole["meta"].get("forced"):
        parts.insert(
            0, Text("FORCED: the two runs are not comparable; see the warnings", style="bold yellow")
        )
    warnings = [
        Text(f"warning: {one_line(text, limit=300)}", style="yellow")
        for text in whole["meta"].get("warnings", [])
    ]
    return Group(*parts, Text(), terminal_table(whole), *warnings)


def render_summary(results: Mapping[str, Any], *, width: int = 120) -> str:
    """Return :func:`summary` as plain text of at most ``width`` columns.

    Raises:
        UsageError: ``results`` does not have the layout of ``results.json``.
    """
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, force_terminal=False).print(summary(results))
    return stream.getvalue()


def terminal_table(results: Mapping[str, Any]) -> Table:
    """Return the overall rows of the headline comparison, or the systems' rates if nothing was compared.

    Raises:
        UsageError: ``results`` does not have the layout of ``results.json``.
    """
    whole = checked(results)
    return _differences(whole) if whole["rows"] else _rates(whole)


def _table(*numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("rate")
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _differences(results: Results) -> Table:
    table = _table(
        "before", "after", "difference", f"{view.level_of(results) * 100:g} % interval", "p", "items"
    )
    table.add_column("")
    for task, lines in view.by_task(view.lines(view.overall(results["rows"]), results)):
        table.add_row(Text(task, style="bold"))
        for line in lines:
            style = _STYLES.get(line.state, "")
            cells = (line.before, line.after, line.difference, line.interval, line.p, line.n)
            name, note = Text(f"  {line.metric}"), Text(line.reason or line.note, style=style)
            table.add_row(name, *(Text(cell) for cell in cells), note)
    return table


def _rates(results: Results) -> Table:
    table = _table("measured", f"{view.level_of(results) * 100:g} % interval", "items")
    table.add_column("")
    for system in results["systems"]:
        _add_rates(table, system, results)
    return table


def _add_rates(table: Table, system: System, results: Results) -> None:
    tasks = results["meta"].get("tasks", {})
    shown: list[RateRow] = [row for row in system["rates"] if row["category"] == ALL]
    for index, row in enumerate(shown):
        if index == 0 or shown[index - 1]["task"] != row["task"]:
            owner = f" · {one_line(system['label'], limit=40)}" if len(results["systems"]) > 1 else ""
            table.add_row(Text(f"{task_title(row['task'], tasks)}{owner}", style="bold"))
        cell = view.cell(row)
        cells = (cell.rate, cell.interval, f"{row['n_items']:,}", cell.note)
        table.add_row(Text(f"  {metric_title(row['metric'])}"), *(Text(part) for part in cells))
