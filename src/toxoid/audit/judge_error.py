"""Takes the judge's error out of rates, where its card allows that, and says where it does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from toxoid.audit.rates import ALL, Settings, clusters
from toxoid.audit.results import RateRow
from toxoid.audit.run import Scored
from toxoid.audit.tasks import Metric, task_spec
from toxoid.stats.judge_error import corrected_rate

_COUNTS = ("tp", "fn", "tn", "fp")


def with_corrections(
    rows: Sequence[RateRow], scored: Sequence[Scored], card: Mapping[str, Any] | None, settings: Settings
) -> list[RateRow]:
    """Return the rates, the overall ones with what they would be with a judge that never errs.

    That is known of metrics that count the aspect which the judge's card was measured on; :func:`why_not` names others.
    """
    return [_corrected(row, scored, card, settings) if row["category"] == ALL else row for row in rows]


def why_not(tasks: Iterable[str], card: Mapping[str, Any] | None) -> list[str]:
    """Return a sentence on the metrics of the tasks whose rates are left as the judge sees them, if there are any."""
    wanted = [(task, metric) for task in tasks for metric in task_spec(task).metrics]
    left = dict.fromkeys(metric.name for _, metric in wanted if not _applies(metric, card))
    if not left:
        return []
    return [f"not corrected for the judge's error: {', '.join(left)}, because {_reason(card)}"]


def _corrected(
    row: RateRow, scored: Sequence[Scored], card: Mapping[str, Any] | None, settings: Settings
) -> RateRow:
    metric = next(metric for metric in task_spec(row["task"]).metrics if metric.name == row["metric"])
    if card is None or not _applies(metric, card):
        return row
    tp, fn, tn, fp = (int(card[name]) for name in _COUNTS)
    of_hits, of_misses = _interval(card, "sensitivity"), _interval(card, "specificity")
    if metric.complement:  # it counts the misses
        tp, fn, tn, fp = tn, fp, tp, fn
        of_hits, of_misses = of_misses, of_hits
    found = corrected_rate(
        list(clusters(scored, row["task"], metric)[ALL].values()),
        tp=tp,
        fn=fn,
        tn=tn,
        fp=fp,
        sensitivity_interval=of_hits,
        specificity_interval=of_misses,
        level=settings.level,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    told = {"rate": found.rate, "ci_low": found.ci_low, "ci_high": found.ci_high, "reason": found.reason}
    return {**row, "corrected": told}  # type: ignore[typeddict-item]


def _interval(card: Mapping[str, Any], share: str) -> tuple[float, float] | None:
    """Return the interval of one of the card's shares, which counts several labels of a request together."""
    found = card.get(share) or {}
    low, high = found.get("ci_low"), found.get("ci_high")
    return None if low is None or high is None else (low, high)


def _applies(metric: Metric, card: Mapping[str, Any] | None) -> bool:
    if not card or not card.get("n") or card.get("stale") or any(name not in card for name in _COUNTS):
        return False
    return card.get("aspect") == metric.aspect and metric.also is None and not metric.immediate


def _reason(card: Mapping[str, Any] | None) -> str:
    if not card:
        return "the judge has no card"
    if not card.get("n"):
        return f"{card['name']} was not measured against people ({card['source']})"
    if card.get("stale"):
        return f"the card of {card['name']} was measured with another version of it"
    return f"the card of {card['name']} was measured on `{card.get('aspect')}` alone"
