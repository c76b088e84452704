"""What a round's judge is worth: numbers with intervals for each slice, prompts of one group resampled together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from toxoid.engines.classifiers.base import TextClassifier, positive
from toxoid.methods.adversarial_tuning.prompts import LabelledPrompt
from toxoid.stats.agreement import Estimate, area_under_roc, expected_calibration_error
from toxoid.stats.intervals import clustered_rate
from toxoid.stats.resampling import Floats, percentiles

RESAMPLES = 1000
LEVEL = 0.95

_Number: TypeAlias = Callable[[Floats, Floats], float | None]


@dataclass(frozen=True, slots=True)
class SliceMeasures:
    """A judge on one slice. A number is ``None`` throughout where it is not defined: no recall without hits.

    Args:
        n: Prompts.
        unscored: Prompts that the judge could not read; in none of the numbers.
        accuracy: Share of right answers, groups weighing the same.
        false_positives: Share of harmless prompts called problematic.
        recall: Share of problematic prompts called so.
        auroc: Chance that a problematic prompt scores above a harmless one.
        ece: Expected calibration error.
    """

    n: int
    unscored: int
    accuracy: Estimate
    false_positives: Estimate
    recall: Estimate
    auroc: Estimate
    ece: Estimate


def scores_of(judge: TextClassifier, prompts: Sequence[LabelledPrompt]) -> Floats:
    """Return the probability that each prompt is problematic, shape (prompts,); NaN where it cannot be read."""
    return positive(judge.labels, judge.probabilities([prompt.text for prompt in prompts]))


def hits_of(judge: TextClassifier, scores: Floats) -> list[bool | None]:
    """Return the answers that go with the scores; ``None`` for an unreadable prompt."""
    return [None if np.isnan(score) else bool(score >= judge.labels.threshold) for score in scores]


def right_of(hits: Sequence[bool | None], prompts: Sequence[LabelledPrompt]) -> list[float | None]:
    """Return 1 for a right answer, 0 for a wrong one, ``None`` for none."""
    pairs = zip(hits, prompts, strict=True)
    return [None if hit is None else float(hit == prompt.problematic) for hit, prompt in pairs]


def measure(judge: TextClassifier, prompts: Sequence[LabelledPrompt], *, seed: int = 0) -> SliceMeasures:
    """Return what ``judge`` is worth on ``prompts``.

    Rates have the interval of :func:`toxoid.stats.intervals.clustered_rate`, the others the percentile bootstrap over
    groups, which has no width where nothing varies.
    """
    scores = scores_of(judge, prompts)
    right = right_of(hits_of(judge, scores), prompts)
    wrong = [None if value is None else 1 - value for value in right]
    harmful = [prompt.problematic for prompt in prompts]
    read = [i for i, score in enumerate(scores) if not np.isnan(score)]
    known, labels = scores[read], np.array([float(harmful[i]) for i in read])
    groups = _rows_by_group([prompts[i] for i in read])
    return SliceMeasures(
        n=len(prompts),
        unscored=len(prompts) - len(read),
        accuracy=_rate(right, prompts, [True] * len(prompts), seed),
        false_positives=_rate(wrong, prompts, [not label for label in harmful], seed),
        recall=_rate(right, prompts, harmful, seed),
        auroc=_bootstrapped(area_under_roc, known, labels, groups, seed),
        ece=_bootstrapped(expected_calibration_error, known, labels, groups, seed),
    )


def measure_all(
    judge: TextClassifier, slices: Mapping[str, Sequence[LabelledPrompt]], *, seed: int = 0
) -> dict[str, SliceMeasures]:
    """Return :func:`measure` for each slice that has prompts."""
    return {name: measure(judge, prompts, seed=seed) for name, prompts in slices.items() if prompts}


def by_group(values: Sequence[float | None], prompts: Sequence[LabelledPrompt]) -> list[list[float | None]]:
    """Return the values of the prompts, those of one group together, in the order of the groups' first prompts."""
    return [[values[row] for row in rows] for rows in _rows_by_group(prompts)]


def _rows_by_group(prompts: Sequence[LabelledPrompt]) -> list[NDArray[np.int64]]:
    groups: dict[tuple[str, str], list[int]] = {}
    for row, prompt in enumerate(prompts):
        key = ("group", prompt.group) if prompt.group else ("text", prompt.key)
        groups.setdefault(key, []).append(row)
    return [np.array(rows) for rows in groups.values()]


def _rate(
    values: Sequence[float | None], prompts: Sequence[LabelledPrompt], kept: Sequence[bool], seed: int
) -> Estimate:
    outcomes = by_group(list(compress(values, kept)), list(compress(prompts, kept)))
    rate = clustered_rate(outcomes, level=LEVEL, resamples=RESAMPLES, seed=seed)
    return Estimate(rate.rate, rate.ci_low, rate.ci_high)


def _bootstrapped(
    number: _Number, scores: Floats, labels: Floats, groups: Sequence[NDArray[np.int64]], seed: int
) -> Estimate:
    value = number(scores, labels)
    if value is None:
        return Estimate(None, None, None)
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])
        drawn = number(scores[rows], labels[rows])
        if drawn is not None:  # a draw may hold one label only
            draws.append(drawn)
    return Estimate(value, *percentiles(np.array(draws), LEVEL))
