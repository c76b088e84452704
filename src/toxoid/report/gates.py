"""Gates: limits that a caller sets on what a run measured, parsed and decided here for every command.

A gate says what is a failure: ``asr>0.1``. It is written ``[TASK.]METRIC[@END] OP LIMIT``:

- METRIC is a rate of an audit task (``harmless_rate``, ``over_refusal_rate``, ...), or ``asr``, the attack success
  rate of tasks of harmful requests: 1 - ``harmless_rate``.
- Without TASK the gate stands for every task that has the metric, and one of them is enough to breach it.
- ``difference(METRIC)`` is the paired difference of the headline comparison, after - before.
- END is ``upper`` or ``lower``, an end of the interval: ``asr@upper>10%`` fails unless the run shows that the attack
  success rate is not above a tenth.
- OP is ``>``, ``>=``, ``<`` or ``<=``; LIMIT is a fraction, or a percentage with ``%``.

A gate is read on the system that the verdict is about: the treated one, or the only one. It fails closed. What was
not measured breaches it, and so do unscored replies, where they are more than a few and could carry the rate over
the limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any

from toxoid.audit.numbers import NOISE, finite, percent, points
from toxoid.audit.results import RateRow, Results, Row
from toxoid.audit.tasks import HARMLESS, TASKS
from toxoid.audit.verdict import ALL, UNSCORED_LIMIT
from toxoid.errors import ThresholdBreached, UsageError, did_you_mean
from toxoid.report.html import checked
from toxoid.report.subject import system_of

ASR = "asr"
"""Attack success rate: 1 - ``harmless_rate``."""

_OPERATORS: dict[str, Callable[[float, float], bool]] = {">": gt, ">=": ge, "<": lt, "<=": le}
_NAME = r"(?:(?P<task>[\w-]+)\.)?(?P<metric>\w+)"
_GATE = re.compile(
    rf"\s*(?P<difference>difference\(\s*)?{_NAME}(?(difference)\s*\))\s*(?:@(?P<end>upper|lower))?\s*"
    r"(?P<operator>[<>]=?)\s*(?P<limit>[+-]?(?:\d+\.?\d*|\.\d+))\s*(?P<percent>%)?\s*"
)


@dataclass(frozen=True, slots=True)
class Gate:
    """A limit, as parsed by :func:`parse_gate`.

    Args:
        text: As it was given.
        task: ``None`` for every task that has the metric.
        metric: A metric of the tasks, or :data:`ASR`.
        difference: Whether it is set on the paired difference.
        end: ``"upper"`` or ``"lower"`` for an end of the interval, empty for the estimate.
        operator: What the measured value must not be.
        limit: A fraction.
    """

    text: str
    task: str | None
    metric: str
    difference: bool
    end: str
    operator: str
    limit: float

    @property
    def rate(self) -> str:
        """The rate of the results that it reads."""
        return HARMLESS.name if self.metric == ASR else self.metric

    def crossed(self, value: float) -> bool:
        """Tell whether a value breaches the gate; what is equal but for floating point is equal."""
        towards = NOISE if self.operator in (">", "<=") else -NOISE
        return _OPERATORS[self.operator](value, self.limit + towards)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A measured value, the ends of its interval, and between what the unscored replies leave it."""

    value: float | None
    low: float | None
    high: float | None
    least: float | None
    most: float | None
    unscored: float

    def subtracted_from(self, whole: float) -> _Reading:
        """Return ``whole`` minus the reading."""
        value, low, high, least, most = (
            None if end is None else whole - end
            for end in (self.value, self.high, self.low, self.most, self.least)
        )
        return _Reading(value, low, high, least, most, self.unscored)


def parse_gates(texts: Iterable[str]) -> list[Gate]:
    """Return the gates that the texts say; see the head of this module.

    Raises:
        UsageError: A text is no gate, or names a metric or task that there is not.
    """
    return [parse_gate(text) for text in texts]


def parse_gate(text: str) -> Gate:
    """Return one gate.

    Raises:
        UsageError: ``text`` is no gate, or names a metric or task that there is not.
    """
    found = _GATE.fullmatch(text)
    if not found:
        raise UsageError(
            f'"{text}" is no gate: write METRIC OP LIMIT, such as "asr>0.1", "harmfulness.harmless_rate<90%", '
            '"asr@upper>20%" or "difference(harmless_rate)<0"'
        )
    task, metric = found["task"], found["metric"]
    _check_names(text, task, metric)
    limit = float(found["limit"]) / (100 if found["percent"] else 1)
    if not -1 <= limit <= 1:
        raise UsageError(
            f'"{text}": rates and their differences are fractions between -1 and 1: write 10% or 0.1'
        )
    difference = found["difference"] is not None
    return Gate(text.strip(), task, metric, difference, found["end"] or "", found["operator"], limit)


def enforce(results: Mapping[str, Any], gates: Sequence[Gate]) -> None:
    """Pass if no gate is breached by the results of a run or a comparison.

    Raises:
        ThresholdBreached: With a line for each gate that is.
        UsageError: ``results`` does not have the layout of ``results.json``.
    """
    if lines := breaches(results, gates):
        count = f"{len(lines)} of {len(gates)} gates breached" if len(gates) > 1 else "gate breached"
        raise ThresholdBreached("\n  ".join([count, *lines]))


def breaches(results: Mapping[str, Any], gates: Iterable[Gate]) -> list[str]:
    """Return a line for each breached gate: its text and, by task, what was measured.

    Raises:
        UsageError: ``results`` does not have the layout of ``results.json``.
    """
    whole = checked(results)
    found = [(gate.text, _breached(gate, whole)) for gate in gates]
    return [f"{text}: {'; '.join(parts)}" for text, parts in found if parts]


def _breached(gate: Gate, results: Results) -> list[str]:
    """Return by task what breaches a gate; nothing if it holds."""
    if gate.difference and not results["rows"]:
        return ["nothing was compared"]
    readings = _readings(gate, results)
    if not readings:
        return ["no task that was asked measures it"]
    said = {task: _said(gate, reading) for task, reading in readings.items()}
    return [f"{task} {text}" for task, text in said.items() if text]


def _said(gate: Gate, reading: _Reading | None) -> str:
    """Return how a reading breaches a gate; nothing if it does not."""
    if reading is None:
        return "was not measured"
    value = {"": reading.value, "upper": reading.high, "lower": reading.low}[gate.end]
    if value is None:
        return "was not measured: no reply was scored"
    written = points if gate.difference else percent
    if gate.crossed(value):
        return written(value)
    worst = reading.most if gate.operator.startswith(">") else reading.least
    if reading.unscored > UNSCORED_LIMIT and worst is not None and gate.crossed(worst):
        return f"{written(value)}, but {percent(reading.unscored)} of the replies are unscored: maybe {written(worst)}"
    return ""


def _readings(gate: Gate, results: Results) -> dict[str, _Reading | None]:
    """Return what was measured, by task; ``None`` where a task was asked and this rate is missing."""
    found = _differences(gate, results) if gate.difference else _rates(gate, results)
    if gate.metric != ASR:
        return found
    whole = 0.0 if gate.difference else 1.0
    return {task: reading and reading.subtracted_from(whole) for task, reading in found.items()}


def _rates(gate: Gate, results: Results) -> dict[str, _Reading | None]:
    rows = [row for row in system_of(results)["rates"] if row["category"] == ALL]
    found = {row["task"]: _rate(row) for row in rows if row["metric"] == gate.rate}
    return _wanted(gate, found, (row["task"] for row in rows))


def _differences(gate: Gate, results: Results) -> dict[str, _Reading | None]:
    rows = [row for row in results["rows"] if row["category"] == ALL]
    found = {row["task"]: _difference(row) for row in rows if row["metric"] == gate.rate}
    return _wanted(gate, found, (row["task"] for row in rows))


def _wanted(gate: Gate, found: Mapping[str, _Reading], asked: Iterable[str]) -> dict[str, _Reading | None]:
    """Return the readings that a gate is about; where a task should have the rate and has not, there is none."""
    tasks = [gate.task] if gate.task else [task for task in asked if gate.rate in _metrics(task)]
    return {task: found.get(task) for task in tasks}


def _rate(row: RateRow) -> _Reading:
    return _Reading(
        finite(row["rate"]),
        finite(row["ci_low"]),
        finite(row["ci_high"]),
        finite(row["low_bound"]),
        finite(row["high_bound"]),
        row["unscored"] / max(1, row["n_replies"]),
    )


def _difference(row: Row) -> _Reading:
    """Return a row's reading; unscored replies on both sides may all speak against the difference."""
    counts = row["unscored_before"], row["unscored_after"]
    total = row.get("n_replies") or row["n"] + max(counts)
    difference, apart = finite(row["difference"]), sum(counts) / max(1, total)
    least, most = (None, None) if difference is None else (difference - apart, difference + apart)
    low, high = finite(row["ci_low"]), finite(row["ci_high"])
    return _Reading(difference, low, high, least, most, max(counts) / max(1, total))


def _metrics(task: str) -> list[str]:
    return [metric.name for metric in TASKS[task].metrics] if task in TASKS else []


def _check_names(text: str, task: str | None, metric: str) -> None:
    """Refuse names that no results can have, before anything is measured."""
    if task is not None and task not in TASKS:
        raise UsageError(
            f'"{text}": there is no audit task "{task}".{did_you_mean(task, TASKS)} Known: {", ".join(TASKS)}'
        )
    of_tasks = [_metrics(task)] if task else map(_metrics, TASKS)
    names = list(dict.fromkeys(name for metrics in of_tasks for name in metrics))
    known = [*([ASR] if HARMLESS.name in names else []), *names]
    if metric not in known:
        where = f"the task {task} has no metric" if task else "there is no metric"
        raise UsageError(
            f'"{text}": {where} "{metric}".{did_you_mean(metric, known)} Known: {", ".join(known)}'
        )
