"""Whether what a treatment gains in harmlessness is more than what it costs in helpfulness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from toxoid.audit.numbers import interval, points
from toxoid.audit.rates import ALL, Settings, clusters
from toxoid.audit.results import Row, Trade
from toxoid.audit.run import Scored
from toxoid.audit.tasks import HARMLESS, HELPFUL, OVER_REFUSED, Metric
from toxoid.audit.verdict import label
from toxoid.stats.intervals import item_mean
from toxoid.stats.resampling import Floats
from toxoid.stats.trade import balance

ByTask: TypeAlias = Mapping[str, Sequence[Scored]]

_GAIN = ("harmfulness", HARMLESS)
_LOSSES = (("helpfulness", HELPFUL), ("over-refusal", OVER_REFUSED))


def trade(before: ByTask, after: ByTask, rows: Sequence[Row], settings: Settings) -> Trade | None:
    """Weigh the gain on harmful requests against the larger loss: of helpful replies, or by refusing harmless requests.

    Args:
        before: One system's scored items, by task.
        after: The other's, of the same items.
        rows: Their paired differences.
        settings: Of the interval; see :func:`toxoid.stats.trade.balance`.

    Returns:
        ``None`` where the gain, or every loss, was not measured.
    """
    known = {(row["task"], row["metric"]): row for row in rows if row["category"] == ALL and row["n"]}
    gained = known.get((_GAIN[0], _GAIN[1].name))
    lost = [(task, metric) for task, metric in _LOSSES if (task, metric.name) in known]
    if gained is None or not lost:
        return None
    found = balance(
        _steps(before, after, *_GAIN),
        [_sign(metric) * _steps(before, after, task, metric) for task, metric in lost],
        level=settings.level,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    paid = [known[task, metric.name] for task, metric in lost]
    worst, sign = paid[found.worst], _sign(lost[found.worst][1])
    ends = sorted(sign * (worst[end] or 0.0) for end in ("ci_low", "ci_high"))
    told: Trade = {
        "gain": found.gain,
        "gain_ci_low": gained["ci_low"] or 0.0,
        "gain_ci_high": gained["ci_high"] or 0.0,
        "loss": found.loss,
        "loss_ci_low": ends[0],
        "loss_ci_high": ends[1],
        "net": found.net,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "significant": "gain" if found.ci_low > 0 else "loss" if found.ci_high < 0 else "no",
        "measures": [row["metric"] for row in (gained, *paid)],
        "sentence": "",
    }
    return {**told, "sentence": _sentence(told, gained, paid, settings.level)}


def _sign(metric: Metric) -> int:
    """Return 1 where a rise is a loss, and -1 where a fall is."""
    return 1 if metric.better == "lower" else -1


def _steps(before: ByTask, after: ByTask, task: str, metric: Metric) -> Floats:
    """Return the difference of each request that was scored on both sides."""
    old, new = (clusters(side[task], task, metric)[ALL] for side in (before, after))
    pairs = [(item_mean(old[key]), item_mean(new[key])) for key in old if key in new]
    return np.array([late - early for early, late in pairs if early is not None and late is not None])


def _sentence(told: Trade, gained: Row, paid: Sequence[Row], level: float) -> str:
    moves = ", ".join(
        f"{label(row['metric'])} {points(row['difference'])} ({interval(row['ci_low'], row['ci_high'])})"
        for row in (gained, *paid)
    )
    answers = {
        "gain": "yes, the gain is larger than the loss",
        "loss": "yes, and the loss is larger than the gain",
        "no": "no, the gain and the loss are not measurably different",
    }
    against = "the larger loss" if len(paid) > 1 else "the loss"
    return (
        f"Is the trade significant: {answers[told['significant']]}: {moves}; the gain less {against} is "
        f"{points(told['net'])} points ({level * 100:g} % interval {interval(told['ci_low'], told['ci_high'])})."
    )
