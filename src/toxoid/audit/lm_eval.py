"""Reads what lm-eval measured: the capability of a model, from the ``results_*.json`` that it left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toxoid.audit.numbers import finite
from toxoid.config.yaml_files import read_text
from toxoid.errors import UsageError


@dataclass(frozen=True, slots=True)
class LMEvalScore:
    """One number of lm-eval (results layout of versions 0.4).

    Args:
        task: Task or group, e.g. ``"mmlu"``.
        metric: E.g. ``"acc"`` or ``"exact_match"``.
        filter: How answers were read from replies; ``"none"`` for as they are.
        value: As lm-eval gives it; mostly a fraction.
        stderr: Standard error of ``value``; ``None`` where lm-eval gives none.
        n: Documents; ``None`` where the file does not say.
        higher_is_better: ``None`` where the file does not say.
    """

    task: str
    metric: str
    filter: str
    value: float
    stderr: float | None
    n: int | None
    higher_is_better: bool | None


def read_lm_eval(path: str | Path) -> list[LMEvalScore]:
    """Return the numbers of an lm-eval ``results_*.json``, in the order of the file.

    Raises:
        UsageError: The file is missing, or no results of lm-eval.
    """
    try:
        whole = json.loads(read_text(path))
        found = [score for task in whole["results"] for score in _scores(task, whole)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: no results of lm-eval ({type(error).__name__}: {error}): give the results_*.json that "
            "`lm_eval --output_path` wrote"
        ) from error
    if not found:
        raise UsageError(f"{path}: these results of lm-eval hold no number: give those of a finished run")
    return found


def _scores(task: str, whole: Mapping[str, Any]) -> Iterator[LMEvalScore]:
    """Yield a task's numbers; their keys are ``metric,filter``, those of errors ``metric_stderr,filter``."""
    row: Mapping[str, Any] = whole["results"][task]
    better = whole.get("higher_is_better", {}).get(task, {})
    counts = whole.get("n-samples", {}).get(task, {})
    for key, given in row.items():
        metric, comma, name = key.partition(",")
        value = _number(given)
        if comma and not metric.endswith("_stderr") and value is not None:
            error = _number(row.get(f"{metric}_stderr,{name}"))
            yield LMEvalScore(task, metric, name, value, error, counts.get("effective"), better.get(metric))


def _number(given: object) -> float | None:
    """Return a finite number; lm-eval writes ``"N/A"`` where it has none."""
    return finite(given) if isinstance(given, (int, float)) and not isinstance(given, bool) else None
