"""Calibration of a classifier on texts it was not trained on: a temperature, and a threshold by a rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from toxoid.errors import UsageError
from toxoid.stats.resampling import Floats

Threshold: TypeAlias = float | Literal["balanced"] | Mapping[str, float]
"""From which probability on a text is a hit: a number, ``"balanced"``, or ``{"recall": share}``."""

_TEMPERATURES = (0.05, 20.0)


def check_threshold(rule: Threshold) -> None:
    """Refuse what is no rule for a threshold.

    Raises:
        UsageError: It is none; the text says what is.
    """
    if rule == "balanced":
        return
    share = rule.get("recall") if isinstance(rule, Mapping) and len(rule) == 1 else rule
    if not isinstance(share, int | float) or not 0 < share < 1:
        raise UsageError(
            f'the threshold is {rule!r}: give a number between 0 and 1, "balanced", or {{"recall": such a number}}'
        )


def fit_temperature(log_probabilities: Floats, labels: NDArray[np.int64]) -> float:
    r"""Return the T that makes the labels most likely under :math:`p \propto \exp(\log p / T)`.

    Above 1 the classifier was too sure of itself, below 1 not sure enough. Source: Guo et al. 2017, section 4.2; of n
    texts with a label, n + 1 in n + L count for it and the rest for the other L - 1 labels (Platt 1999, section 2.2),
    so that a classifier without a mistake on a few texts is not taken for one that makes none.

    Args:
        log_probabilities: Shape (texts, labels), at temperature 1.
        labels: Shape (texts,), the right columns.

    Returns:
        Between 0.05 and 20.
    """
    count = log_probabilities.shape[1]
    met = np.bincount(labels, minlength=count)[labels]
    targets = np.repeat(1 / (met + count), count).reshape(-1, count)
    np.put_along_axis(targets, labels[:, None], ((met + 1) / (met + count))[:, None], axis=1)

    def loss(log_temperature: float) -> float:
        scaled = log_probabilities / math.exp(log_temperature)
        return float((np.logaddexp.reduce(scaled, axis=1) - (targets * scaled).sum(axis=1)).mean())

    # convex in 1 / T (Boyd and Vandenberghe 2004, section 3.1.5), so with one minimum in log T as well
    low, high = map(math.log, _TEMPERATURES)
    return math.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x)


def choose_threshold(rule: Threshold, scores: Floats, truth: NDArray[np.bool_]) -> float:
    """Return the probability from which on a text is called a hit.

    ``"balanced"`` has the highest mean of sensitivity and specificity, ``{"recall": r}`` the highest specificity with
    a sensitivity of r or more. The threshold lies halfway between two of the scores.

    Args:
        rule: How.
        scores: Shape (texts,), the probability of a hit.
        truth: Shape (texts,), whether it is one; both kinds occur.
    """
    if isinstance(rule, float | int):
        return float(rule)
    values = np.unique(scores)
    candidates = np.concatenate([[values[0] / 2], (values[1:] + values[:-1]) / 2])
    hits, misses = np.sort(scores[truth]), np.sort(scores[~truth])
    sensitivity = 1 - np.searchsorted(hits, candidates) / len(hits)
    specificity = np.searchsorted(misses, candidates) / len(misses)
    if isinstance(rule, Mapping):
        best = np.flatnonzero(sensitivity >= rule["recall"])[-1]
    else:
        best = np.argmax(sensitivity + specificity)
    return float(np.clip(candidates[best], np.finfo(np.float64).tiny, 1.0))
