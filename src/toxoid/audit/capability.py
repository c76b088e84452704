"""Capability beside safety: how well a model predicts held-out text, and what lm-eval measured of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from toxoid.audit.lm_eval import LMEvalScore
from toxoid.audit.rates import Settings
from toxoid.audit.results import CapabilityRow, CapabilityScore
from toxoid.stats.intervals import quantile_of_normal
from toxoid.stats.ratios import Mean, clustered_means, difference_of_means
from toxoid.stats.resampling import Floats

TEXTS = "texts"
BITS = "bits_per_byte"
PERPLEXITY = "perplexity"

Costs = Mapping[str, tuple[float, int, int]]
"""By text: the nats of its tokens, their number, and its bytes."""


def text_scores(costs: Costs, settings: Settings) -> list[CapabilityScore]:
    """Return bits per byte and perplexity per token over all texts, with intervals by bootstrap over texts.

    Bits per byte can be compared between models of different tokenizers, perplexity cannot.
    """
    nats, tokens, sizes = _columns(costs, sorted(costs))
    bits, logs = clustered_means(
        np.stack([nats / math.log(2), nats], axis=1),
        np.stack([sizes, tokens], axis=1),
        level=settings.level,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    return [_score(BITS, bits, float, len(costs)), _score(PERPLEXITY, logs, math.exp, len(costs))]


def text_rows(before: Costs, after: Costs, settings: Settings) -> list[CapabilityRow]:
    """Return the paired differences on the texts that both models were given.

    That of the perplexity is relative: ``after / before - 1``.
    """
    shared = sorted(before.keys() & after.keys())
    old, new = _columns(before, shared), _columns(after, shared)

    def difference(unit: float, count: int) -> tuple[float | None, float | None, Mean]:
        return difference_of_means(
            (old[0] / unit, old[count]),
            (new[0] / unit, new[count]),
            level=settings.level,
            resamples=settings.resamples,
            seed=settings.seed,
        )

    logs = difference(1.0, 1)
    changed = Mean(*(_mapped(math.expm1, end) for end in (logs[2].value, logs[2].low, logs[2].high)))
    perplexities = _mapped(math.exp, logs[0]), _mapped(math.exp, logs[1])
    return [
        _row(TEXTS, BITS, *difference(math.log(2), 2), n=len(shared)),
        _row(TEXTS, PERPLEXITY, *perplexities, changed, n=len(shared), relative=True),
    ]


def task_scores(scores: Sequence[LMEvalScore], settings: Settings) -> list[CapabilityScore]:
    """Return what lm-eval measured, with normal intervals from its standard errors."""
    return [
        {
            "task": score.task,
            "metric": _metric(score),
            "value": score.value,
            "ci_low": _end(score.value, score.stderr, -1, settings),
            "ci_high": _end(score.value, score.stderr, 1, settings),
            "stderr": score.stderr,
            "n": score.n,
            "better": _BETTER[score.higher_is_better],
        }
        for score in scores
    ]


def task_rows(
    before: Sequence[CapabilityScore], after: Sequence[CapabilityScore], settings: Settings
) -> list[CapabilityRow]:
    """Return the differences of the tasks that lm-eval measured of both models.

    Its files hold no single answers, so that the two are taken for independent: a paired interval would be narrower.
    """
    new = {(score["task"], score["metric"]): score for score in after}
    rows: list[CapabilityRow] = []
    for score in before:
        other = new.get((score["task"], score["metric"]))
        if score["task"] == TEXTS or other is None or score["value"] is None or other["value"] is None:
            continue
        errors = score["stderr"], other["stderr"]
        error = None if errors[0] is None or errors[1] is None else math.hypot(errors[0], errors[1])
        step = other["value"] - score["value"]
        mean = Mean(step, _end(step, error, -1, settings), _end(step, error, 1, settings))
        row = _row(score["task"], score["metric"], score["value"], other["value"], mean, n=score["n"])
        rows.append({**row, "paired": False, "better": score["better"]})
    return rows


_BETTER: dict[bool | None, Any] = {True: "higher", False: "lower", None: "none"}


def _columns(costs: Costs, names: Sequence[str]) -> tuple[Floats, Floats, Floats]:
    table = np.array([costs[name] for name in names], dtype=np.float64).reshape(len(names), 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _metric(score: LMEvalScore) -> str:
    return score.metric if score.filter == "none" else f"{score.metric} ({score.filter})"


def _end(value: float, error: float | None, side: int, settings: Settings) -> float | None:
    return None if error is None else value + side * quantile_of_normal(settings.level) * error


def _mapped(function: Callable[[float], float], value: float | None) -> float | None:
    return None if value is None else function(value)


def _score(metric: str, mean: Mean, scale: Callable[[float], float], n: int) -> CapabilityScore:
    return {
        "task": TEXTS,
        "metric": metric,
        "value": _mapped(scale, mean.value),
        "ci_low": _mapped(scale, mean.low),
        "ci_high": _mapped(scale, mean.high),
        "stderr": None,
        "n": n,
        "better": "lower",
    }


def _row(
    task: str,
    metric: str,
    before: float | None,
    after: float | None,
    difference: Mean,
    *,
    n: int | None,
    relative: bool = False,
) -> CapabilityRow:
    return {
        "task": task,
        "metric": metric,
        "before": before,
        "after": after,
        "difference": difference.value,
        "ci_low": difference.low,
        "ci_high": difference.high,
        "n": n,
        "better": "lower",
        "paired": True,
        "relative": relative,
    }
