"""How numbers and names are written in reports: the one place that turns a value into text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toxoid.audit.numbers import DASH, MINUS, finite, interval, p_value, percent, points, share, signed
from toxoid.audit.results import Row
from toxoid.audit.verdict import label
from toxoid.report.text import one_line

__all__ = [
    "DASH",
    "MINUS",
    "count",
    "duration",
    "finite",
    "interval",
    "metric_title",
    "missing_reason",
    "number",
    "p_value",
    "percent",
    "points",
    "share",
    "signed",
    "task_title",
]


def count(value: float | None) -> str:
    """Return a whole number with thousands separators; a dash for ``None``."""
    number = finite(value)
    return DASH if number is None else f"{number:,.0f}"


def number(value: float | None, *, decimals: int = 2) -> str:
    """Return a plain number such as a kappa, ``"0.87"``; a dash for ``None``."""
    found = finite(value)
    return DASH if found is None else f"{found:.{decimals}f}".replace("-", MINUS)


def duration(seconds: float | None) -> str:
    """Return seconds as ``"4.2 s"``, ``"3 min 05 s"`` or ``"2 h 04 min"``; a dash for ``None``."""
    found = finite(seconds)
    if found is None:
        return DASH
    if found < 59.95:
        return f"{found:.1f} s"
    minutes, rest = divmod(round(found), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def metric_title(metric: str) -> str:
    """Return a metric's name as a heading: ``"harmless_rate"`` is ``"Harmless rate"``."""
    text = one_line(label(metric), limit=60)
    return text[:1].upper() + text[1:]


def task_title(task: str, tasks: Mapping[str, Any]) -> str:
    """Return the title that the results give a task, or its name."""
    return one_line((tasks.get(task) or {}).get("title") or task, limit=80)


def missing_reason(row: Row) -> str:
    """Say why a row has no difference."""
    if not row["n"]:
        return "no item was scored on both sides"
    return "not measured"
