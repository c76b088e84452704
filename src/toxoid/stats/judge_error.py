"""A rate corrected for the errors of the judge that measured it (Rogan and Gladen 1978)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from toxoid.stats.intervals import Outcomes, Rate, clustered_rate, item_means, quantile_of_normal
from toxoid.stats.resampling import Floats, bootstrap_means, check_options, percentiles

_NO_INFORMATION = "the judge carries no information: sensitivity {:.2f} + specificity {:.2f} is not above 1"


@dataclass(frozen=True, slots=True)
class CorrectedRate:
    """What the rate would be with a judge that never errs.

    Args:
        rate: In [0, 1]; ``None`` with a ``reason`` if it cannot be known.
        ci_low: Lower end of the interval, which holds the sampling error of the audit and of the calibration.
        ci_high: Upper end.
        apparent: The rate as the judge sees it.
        sensitivity: Share of true hits the judge calls a hit; ``None`` if its calibration has no true hit.
        specificity: Share of true misses it calls a miss; ``None`` if its calibration has no true miss.
        reason: Why there is no corrected rate; empty if there is one.
    """

    rate: float | None
    ci_low: float | None
    ci_high: float | None
    apparent: Rate
    sensitivity: float | None
    specificity: float | None
    reason: str = ""


def rogan_gladen(rate: float, sensitivity: float, specificity: float) -> float | None:
    """Return ``(rate + specificity - 1) / (sensitivity + specificity - 1)``, clipped to [0, 1].

    ``None`` if ``sensitivity + specificity <= 1``: such a judge is no better than chance, and its verdicts
    carry no information to correct.

    Raises:
        ValueError: An argument outside [0, 1].
    """
    if not all(0.0 <= share <= 1.0 for share in (rate, sensitivity, specificity)):
        raise ValueError(
            f"rate, sensitivity, specificity {(rate, sensitivity, specificity)}; expected shares"
        )
    information = sensitivity + specificity - 1.0
    if information <= 0.0:
        return None
    return min(1.0, max(0.0, (rate + specificity - 1.0) / information))


def corrected_rate(
    outcomes: Outcomes,
    *,
    tp: int,
    fn: int,
    tn: int,
    fp: int,
    sensitivity_interval: tuple[float, float] | None = None,
    specificity_interval: tuple[float, float] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> CorrectedRate:
    """Return the rate corrected for a judge whose errors were counted against human labels.

    Each draw resamples the items (cluster bootstrap) and, apart from it, the labelled hits and the labelled
    misses, all with the pseudo items of :mod:`toxoid.stats.resampling`. So a judge that made no error on 20
    labels is not taken for infallible. Labels that are not independent, several to a request say, are worth fewer than
    there are: as many as give the interval that was found for the share. A draw whose judge carries no information says
    nothing: it stands at 0 for the lower end and at 1 for the upper.

    A hit is an outcome of 1. Where a metric counts the misses instead (a harmless rate), swap the roles:
    ``tp`` with ``tn`` and ``fn`` with ``fp``. It is assumed that the judge errs on the audited replies as
    often as on the labelled ones.

    Args:
        outcomes: Per item, the judge's 0/1 verdicts; ``None`` is unscored.
        tp: Labelled hits the judge calls a hit.
        fn: Labelled hits it calls a miss.
        tn: Labelled misses it calls a miss.
        fp: Labelled misses it calls a hit.
        sensitivity_interval: At 95 %, where labelled hits are not independent; Wilson's if ``None``.
        specificity_interval: The same for labelled misses.
        level: Nominal coverage.
        resamples: Bootstrap draws.
        seed: Of the draws.

    Raises:
        ValueError: A negative count, an outcome outside [0, 1], or impossible options.
    """
    check_options(level, resamples)
    if min(tp, fn, tn, fp) < 0:
        raise ValueError(f"tp {tp}, fn {fn}, tn {tn}, fp {fp}; expected counts of at least 0")
    apparent = clustered_rate(outcomes, level=level, resamples=resamples, seed=seed)
    sensitivity, specificity = _share(tp, fn), _share(tn, fp)
    unknown = partial(CorrectedRate, None, None, None, apparent, sensitivity, specificity)
    if apparent.rate is None:
        return unknown("no reply was scored")
    if sensitivity is None or specificity is None:
        return unknown(f"the judge was never tried on a labelled {'hit' if sensitivity is None else 'miss'}")
    rate = rogan_gladen(apparent.rate, sensitivity, specificity)
    if rate is None:
        return unknown(_NO_INFORMATION.format(sensitivity, specificity))
    rng = np.random.default_rng([seed, 2])
    seen = bootstrap_means(item_means(outcomes), low=0.0, high=1.0, resamples=resamples, rng=rng)
    worth = (
        labels_worth(tp + fn, sensitivity, sensitivity_interval),
        labels_worth(tn + fp, specificity, specificity_interval),
    )
    low, high = _interval(
        seen,
        _redraw(sensitivity, worth[0], resamples, rng),
        _redraw(specificity, worth[1], resamples, rng),
        level,
    )
    return CorrectedRate(rate, min(low, rate), max(high, rate), apparent, sensitivity, specificity)


def _share(right: int, wrong: int) -> float | None:
    return right / (right + wrong) if right + wrong else None


def labels_worth(count: int, share: float, found: tuple[float, float] | None) -> int:
    """Return how many independent labels say as much of ``share`` as the ``count`` that there are.

    Wilson's interval of that many is as wide as the one ``found``. With h half its width, z = 1.96 and u = 1 / n::

        (h^2 - 1/4) z^4 u^2 + (2 h^2 - share (1 - share)) z^2 u + h^2 = 0
    """
    half = (found[1] - found[0]) / 2 if found else 0.0
    if half <= 0.0:
        return count
    if half >= 0.5:
        return 0
    z2 = quantile_of_normal(0.95) ** 2
    a, b, c = (half**2 - 0.25) * z2**2, (2 * half**2 - share * (1 - share)) * z2, half**2
    return min(count, round(-2 * a / (b + math.sqrt(b**2 - 4 * a * c))))


def _redraw(share: float, labels: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Draw ``share`` anew of so many labels, with one pseudo label on each side, shape (resamples,)."""
    total = labels + 2
    return rng.binomial(total, (share * labels + 1) / total, size=resamples) / total


def _interval(seen: Floats, sensitivity: Floats, specificity: Floats, level: float) -> tuple[float, float]:
    information = sensitivity + specificity - 1.0
    informed = information > 0.0
    divisor = np.where(informed, information, 1.0)
    corrected = np.clip((seen + specificity - 1.0) / divisor, 0.0, 1.0)
    low, _ = percentiles(np.where(informed, corrected, 0.0), level)
    _, high = percentiles(np.where(informed, corrected, 1.0), level)
    return low, high
