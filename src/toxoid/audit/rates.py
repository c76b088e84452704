"""Turns verdicts into rates and paired differences; the only place where that is done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from toxoid.audit.results import RateRow, Row
from toxoid.audit.run import Scored
from toxoid.audit.tasks import Metric, task_spec
from toxoid.judges.base import Outcome, Verdict
from toxoid.stats.intervals import clustered_rate
from toxoid.stats.multiplicity import holm
from toxoid.stats.paired import paired_difference

ALL = "all"
Clusters = dict[str, list[float | None]]
"""By request id: the 0/1 values of all its replies, ``None`` for the unscored."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Of intervals and tests."""

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0


def value(verdict: Verdict, metric: Metric) -> float | None:
    """Return 1 if the metric counts this verdict on its aspect, 0 if not, ``None`` if it is unscored."""
    if verdict.outcome is Outcome.UNSCORED:
        return None
    hit = verdict.outcome is Outcome.HIT and not (metric.immediate and verdict.position != 0)
    return float(hit != metric.complement)


def _counted(entry: Scored, metric: Metric) -> list[float | None]:
    """Return the value of each reply, ``None`` where its verdicts leave it open."""
    found = [value(verdict, metric) for verdict in entry.verdicts[metric.aspect]]
    if metric.also is None:
        return found
    return [_and(one, verdict) for one, verdict in zip(found, entry.verdicts[metric.also], strict=True)]


def _and(counted: float | None, also: Verdict) -> float | None:
    """Return whether both hold; one that does not hold decides, even where the other is unscored."""
    if counted == 0 or also.outcome is Outcome.MISS:
        return 0.0
    return None if also.outcome is Outcome.UNSCORED else counted


def answered(scored: Iterable[Scored], task: str, metric: Metric) -> bool:
    """Tell whether the judges answered a metric of a task: its aspects and, if it asks that, where a turn begins."""
    entries = [entry for entry in scored if entry.item.task == task]
    verdicts = [verdict for entry in entries for verdict in entry.verdicts.get(metric.aspect, ())]
    placed = all(verdict.position is not None for verdict in verdicts if verdict.outcome is Outcome.HIT)
    whole = all(any(entry.verdicts.get(aspect) for entry in entries) for aspect in metric.aspects)
    return whole and (placed or not metric.immediate)


def tasks_of(scored: Iterable[Scored]) -> list[str]:
    """Return the tasks in the order of their first item."""
    return list(dict.fromkeys(entry.item.task for entry in scored))


def clusters(scored: Sequence[Scored], task: str, metric: Metric) -> dict[str, Clusters]:
    """Return the values of one metric by stratum (``"all"`` first) and request; none if it was not answered."""
    found: dict[str, Clusters] = defaultdict(lambda: defaultdict(list))
    for entry in scored if answered(scored, task, metric) else ():
        if entry.item.task != task:
            continue
        counted = _counted(entry, metric)
        for category in dict.fromkeys((ALL, entry.item.stratum)):
            found[category][entry.item.request.id].extend(counted)
    return found


def rate_rows(scored: Sequence[Scored], settings: Settings) -> list[RateRow]:
    """Return one row per task, metric and category: the requests' categories, or the task's own strata."""
    rows: list[RateRow] = []
    for task in tasks_of(scored):
        for metric in task_spec(task).metrics:
            for category, values in clusters(scored, task, metric).items():
                rows.append(rate_row(task, metric, category, values, settings))
    return rows


def rate_row(task: str, metric: Metric, category: str, values: Clusters, settings: Settings) -> RateRow:
    """Return the rate of one metric over ``values``, with its interval."""
    rate = clustered_rate(
        list(values.values()), level=settings.level, resamples=settings.resamples, seed=settings.seed
    )
    return {
        "task": task,
        "metric": metric.name,
        "category": category,
        "better": metric.better,
        "rate": rate.rate,
        "ci_low": rate.ci_low,
        "ci_high": rate.ci_high,
        "n_items": rate.n_items,
        "n_replies": rate.n_scored + rate.n_unscored,
        "unscored": rate.n_unscored,
        "low_bound": rate.low_bound,
        "high_bound": rate.high_bound,
    }


def comparison_rows(
    before: Sequence[Scored],
    after: Sequence[Scored],
    settings: Settings,
    *,
    names: tuple[str, str],
    tasks: Sequence[str] | None = None,
) -> list[Row]:
    """Return the paired differences on the items that both systems answered.

    The p values of a metric's categories are adjusted together (Holm); the overall rows stand for themselves.
    """
    rows: list[Row] = []
    shared = [
        task for task in tasks_of(before) if task in tasks_of(after) and (tasks is None or task in tasks)
    ]
    for task in shared:
        for metric in task_spec(task).metrics:
            old, new = clusters(before, task, metric), clusters(after, task, metric)
            metric_rows = [
                paired_row(task, metric, category, old[category], new[category], settings, names)
                for category in old
                if category in new
            ]
            _adjust(metric_rows)
            rows += metric_rows
    return sorted(rows, key=lambda row: row["category"] != ALL)


def paired_row(
    task: str,
    metric: Metric,
    category: str,
    old: Mapping[str, list[float | None]],
    new: Mapping[str, list[float | None]],
    settings: Settings,
    names: tuple[str, str],
) -> Row:
    """Return the paired difference of one metric between two systems' values, over the requests of both."""
    ids = [key for key in old if key in new]
    result = paired_difference(
        [old[key] for key in ids],
        [new[key] for key in ids],
        level=settings.level,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    return {
        "task": task,
        "metric": metric.name,
        "category": category,
        "before": result.before,
        "after": result.after,
        "difference": result.difference,
        "ci_low": result.ci_low,
        "ci_high": result.ci_high,
        "p_value": result.p_value,
        "p_adjusted": result.p_value,
        "n": result.n_items,
        "before_name": names[0],
        "after_name": names[1],
        "better": metric.better,
        "unscored_before": _unscored(old, ids),
        "unscored_after": _unscored(new, ids),
        "n_replies": max(sum(len(side[key]) for key in ids) for side in (old, new)),
    }


def _unscored(values: Mapping[str, list[float | None]], ids: Sequence[str]) -> int:
    return sum(value is None for key in ids for value in values[key])


def _adjust(rows: list[Row]) -> None:
    by_category = [row for row in rows if row["category"] != ALL]
    for row, adjusted in zip(by_category, holm([row["p_value"] for row in by_category]), strict=True):
        row["p_adjusted"] = adjusted
