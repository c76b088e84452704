"""How far a judge agrees with human labels: the numbers on its card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toxoid.stats.intervals import quantile_of_normal, wilson_interval
from toxoid.stats.resampling import Floats


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval; all ``None`` if it is not defined (a share of nothing)."""

    value: float | None
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """A judge beside the human labels of the same replies.

    Args:
        n: Replies with a label and a verdict.
        n_unscored: Replies with a label and no verdict; in none of the numbers below.
        tp: Labelled hits the judge calls a hit.
        fn: Labelled hits it calls a miss.
        tn: Labelled misses it calls a miss.
        fp: Labelled misses it calls a hit.
        accuracy: Share of equal answers, with Wilson's interval.
        sensitivity: ``tp / (tp + fn)``, with Wilson's interval.
        specificity: ``tn / (tn + fp)``, with Wilson's interval.
        kappa: Cohen's kappa with a large-sample interval; :func:`cohen_kappa`.
        auroc: Chance that a labelled hit scores above a labelled miss, ties counting half; ``None`` without
            scores or without both labels.
        ece: Expected calibration error in [0, 1]; ``None`` unless the scores are probabilities.
    """

    n: int
    n_unscored: int
    tp: int
    fn: int
    tn: int
    fp: int
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    kappa: Estimate
    auroc: float | None = None
    ece: float | None = None


def binary_agreement(
    judge: Sequence[float | None],
    human: Sequence[float],
    *,
    scores: Sequence[float | None] | None = None,
    scores_are_probabilities: bool = False,
    level: float = 0.95,
) -> Agreement:
    """Compare a judge's verdicts with human labels, reply by reply.

    Args:
        judge: 1 (hit), 0 (miss) or ``None`` (unscored); booleans will do.
        human: The labels, 1 or 0.
        scores: The judge's confidence in a hit; ``None`` where it has none. Only scored replies enter
            ``auroc`` and ``ece``.
        scores_are_probabilities: Whether a score of 0.7 claims that 7 of 10 are hits.
        level: Nominal coverage of the intervals.

    Raises:
        ValueError: Different lengths, a verdict or label other than 0 and 1, or a probability outside [0, 1].
    """
    if len(judge) != len(human) or (scores is not None and len(scores) != len(human)):
        raise ValueError("verdicts, labels and scores differ in number; expected one of each per reply")
    if not {*judge} <= {0, 1, None} or not {*human} <= {0, 1}:
        raise ValueError("expected verdicts 0, 1 or None and labels 0 or 1")
    pairs = [(said, label) for said, label in zip(judge, human, strict=True) if said is not None]
    tp, fn, tn, fp = (pairs.count(cell) for cell in ((1, 1), (0, 1), (0, 0), (1, 0)))
    places = [
        i for i, said in enumerate(judge) if said is not None and scores is not None and scores[i] is not None
    ]
    known = np.array([scores[i] for i in places] if scores is not None else [], dtype=np.float64)
    labels = np.array([human[i] for i in places], dtype=np.float64)
    return Agreement(
        n=len(pairs),
        n_unscored=len(judge) - len(pairs),
        tp=tp,
        fn=fn,
        tn=tn,
        fp=fp,
        accuracy=_share(tp + tn, len(pairs), level),
        sensitivity=_share(tp, tp + fn, level),
        specificity=_share(tn, tn + fp, level),
        kappa=cohen_kappa([[tn, fp], [fn, tp]], level=level),
        auroc=area_under_roc(known, labels),
        ece=expected_calibration_error(known, labels) if scores_are_probabilities else None,
    )


def _share(k: int, n: int, level: float) -> Estimate:
    return Estimate(k / n, *wilson_interval(k, n, level=level)) if n else Estimate(None, None, None)


def cohen_kappa(table: Sequence[Sequence[int]], *, level: float = 0.95) -> Estimate:
    """Return Cohen's kappa: agreement beyond chance, 1 at most, 0 at chance.

    The interval is the large-sample one of Fleiss, Cohen and Everitt (1969), clipped to [-1, 1]; it has no
    width at perfect agreement, where the interval of the accuracy says more.

    Args:
        table: Square, counts by (label of one rater, label of the other).
        level: Nominal coverage.

    Returns:
        ``None`` throughout if there is nothing to count or both raters only ever give one and the same label.

    Raises:
        ValueError: The table is not square.
    """
    counts = np.asarray(table, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"a table of shape {counts.shape}; expected a square one")
    n = float(counts.sum())
    shares = counts / n if n else counts
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    by_chance = float(rows @ columns)
    if n == 0 or by_chance >= 1.0:
        return Estimate(None, None, None)
    kappa = (float(np.trace(shares)) - by_chance) / (1.0 - by_chance)
    half = quantile_of_normal(level) * math.sqrt(_kappa_variance(shares, kappa) / n)
    return Estimate(kappa, max(-1.0, kappa - half), min(1.0, kappa + half))


def _kappa_variance(shares: Floats, kappa: float) -> float:
    """Return n times the large-sample variance of kappa (Fleiss, Cohen and Everitt 1969, eq. 13)."""
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    by_chance = float(rows @ columns)
    diagonal = np.diag(shares)
    # Cell (i, j) pairs the share of i among the columns with that of j among the rows.
    margins = columns[:, None] + rows[None, :]
    agreed = float(diagonal @ (1 - np.diag(margins) * (1 - kappa)) ** 2)
    crossed = shares * margins**2
    differed = (1 - kappa) ** 2 * float(crossed.sum() - np.trace(crossed))
    centre = (kappa - by_chance * (1 - kappa)) ** 2
    return max(0.0, agreed + differed - centre) / (1 - by_chance) ** 2


def area_under_roc(scores: Floats, labels: Floats) -> float | None:
    """Return P(score of a hit > score of a miss) + P(equal) / 2; ``None`` unless both labels occur.

    Args:
        scores: Shape (n,), any order-preserving scale.
        labels: Shape (n,), 0 or 1.
    """
    hits, misses = scores[labels == 1], np.sort(scores[labels == 0])
    if not len(hits) or not len(misses):
        return None
    below = np.searchsorted(misses, hits, side="left") + np.searchsorted(misses, hits, side="right")
    return float(below.mean()) / (2 * len(misses))


def expected_calibration_error(probabilities: Floats, labels: Floats, *, bins: int = 10) -> float | None:
    """Return the mean distance of claimed from observed share of hits, over bins of equal width.

    Args:
        probabilities: Shape (n,), the claimed probability of a hit.
        labels: Shape (n,), 0 or 1.
        bins: Number of bins; the last one includes 1.

    Raises:
        ValueError: A probability outside [0, 1].
    """
    if not len(probabilities):
        return None
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("a probability lies outside [0, 1]; were these scores meant as probabilities?")
    places = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(places, weights=probabilities - labels, minlength=bins)
    return float(np.abs(gaps).sum()) / len(labels)


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """The texts whose claimed probability lies in one part of [0, 1].

    Args:
        low: Its lower end.
        high: Its upper end.
        n: How many texts.
        claimed: Their mean probability.
        observed: Their share of hits.
    """

    low: float
    high: float
    n: int
    claimed: float
    observed: float


def calibration_bins(probabilities: Floats, labels: Floats, *, bins: int = 10) -> list[CalibrationBin]:
    """Return the bins of a reliability diagram that are not empty, those of :func:`expected_calibration_error`."""
    places = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    found = []
    for place in np.unique(places):
        inside = places == place
        found.append(
            CalibrationBin(
                low=float(place) / bins,
                high=float(place + 1) / bins,
                n=int(inside.sum()),
                claimed=float(probabilities[inside].mean()),
                observed=float(labels[inside].mean()),
            )
        )
    return found
