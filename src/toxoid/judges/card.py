"""Judge cards: how far a judge agrees with people, on which labels, and where it fails."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toxoid.data.schemas import Exchange
from toxoid.judges.base import Aspect, Judge, Outcome, Verdict
from toxoid.stats.intervals import wilson_interval

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Labelled:
    """An exchange and what people say of it.

    Args:
        exchange: What the judge sees.
        human: Whether the aspect holds.
        group: Rates are also given per group, e.g. the model that replied.
    """

    exchange: Exchange
    human: bool
    group: str = "all"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number in [0, 1] (kappa: [-1, 1]) with its interval; all ``None`` where nothing could be measured."""

    value: float | None
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """A judge's verdicts against human labels.

    Args:
        n: Verdicts compared: hits and misses.
        n_requests: Different requests among them; intervals are clustered by request.
        tp: Both say yes. ``fn``: only people do. ``tn``: neither does. ``fp``: only the judge does.
        unscored: Verdicts the judge did not give; they are in no rate.
        accuracy: ``(tp + tn) / n``.
        kappa: Cohen's kappa, agreement beyond chance.
        sensitivity: ``tp / (tp + fn)``.
        specificity: ``tn / (tn + fp)``.
    """

    n: int
    n_requests: int
    tp: int
    fn: int
    tn: int
    fp: int
    unscored: int
    accuracy: Estimate
    kappa: Estimate
    sensitivity: Estimate
    specificity: Estimate


@dataclass(frozen=True, slots=True)
class JudgeCard:
    """What a report says about a judge.

    Args:
        name: The judge's name.
        aspect: The aspect measured.
        aspects: All aspects it answers.
        identity: What its verdicts depend on; a card is about this version only.
        agreement: Over all labelled exchanges.
        by_group: The same for each group.
        source: Where the labels come from.
        licence: Of the labelled data.
        weaknesses: One sentence each.
        details: Whatever else belongs to the measurement: command, date, hashes of the data, label mapping.
    """

    name: str
    aspect: Aspect
    aspects: tuple[Aspect, ...]
    identity: Mapping[str, Any]
    agreement: Agreement
    by_group: Mapping[str, Agreement]
    source: str
    licence: str
    weaknesses: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; the numbers of :attr:`agreement` stand at the top level."""
        return {
            "name": self.name,
            "aspect": self.aspect,
            "aspects": list(self.aspects),
            **asdict(self.agreement),
            "by_group": {group: asdict(agreement) for group, agreement in self.by_group.items()},
            "source": self.source,
            "licence": self.licence,
            "weaknesses": list(self.weaknesses),
            "identity": dict(self.identity),
            **self.details,
        }


def measure(
    judge: Judge,
    labelled: Sequence[Labelled],
    aspect: Aspect,
    *,
    source: str,
    licence: str,
    weaknesses: Sequence[str] = (),
    details: Mapping[str, Any] | None = None,
) -> JudgeCard:
    """Run ``judge`` over labelled exchanges and return its card.

    Raises:
        ValueError: The judge does not answer ``aspect``.
    """
    verdicts = judge.judge([item.exchange for item in labelled], aspect)
    groups = sorted({item.group for item in labelled})
    by_group = {
        group: agreement_of(
            [v for v, item in zip(verdicts, labelled, strict=True) if item.group == group],
            [item for item in labelled if item.group == group],
        )
        for group in groups
    }
    return JudgeCard(
        name=judge.name,
        aspect=aspect,
        aspects=tuple(sorted(judge.aspects)),
        identity=judge.identity(),
        agreement=agreement_of(verdicts, labelled),
        by_group=by_group,
        source=source,
        licence=licence,
        weaknesses=tuple(weaknesses),
        details=details or {},
    )


def agreement_of(verdicts: Sequence[Verdict], labelled: Sequence[Labelled]) -> Agreement:
    """Return the agreement of verdicts with labels; several exchanges of a request count as one cluster."""
    cells: dict[str, list[int]] = {}  # request id -> counts of tp, fn, tn, fp
    unscored = 0
    for verdict, item in zip(verdicts, labelled, strict=True):
        if verdict.outcome is Outcome.UNSCORED:
            unscored += 1
            continue
        hit = verdict.outcome is Outcome.HIT
        cell = (0 if hit else 1) if item.human else (3 if hit else 2)
        cells.setdefault(item.exchange.request.id, [0, 0, 0, 0])[cell] += 1
    counts = np.array(list(cells.values()), dtype=np.int64).reshape(-1, 4)
    draws = _resampled(counts)
    tp, fn, tn, fp = (int(count) for count in counts.sum(axis=0))
    return Agreement(
        n=tp + fn + tn + fp,
        n_requests=len(cells),
        tp=tp,
        fn=fn,
        tn=tn,
        fp=fp,
        unscored=unscored,
        accuracy=_rate(counts, draws, hits=[0, 2], among=[0, 1, 2, 3]),
        kappa=_kappa(counts, draws),
        sensitivity=_rate(counts, draws, hits=[0], among=[0, 1]),
        specificity=_rate(counts, draws, hits=[2], among=[2, 3]),
    )


def _resampled(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the totals of ``RESAMPLES`` bootstrap samples of requests, shape (RESAMPLES, 4)."""
    requests = len(counts)
    if requests == 0:
        return np.zeros((RESAMPLES, 4), dtype=np.int64)
    draws = np.random.default_rng(0).multinomial(requests, np.full(requests, 1 / requests), size=RESAMPLES)
    totals: NDArray[np.int64] = draws @ counts
    return totals


def _rate(
    counts: NDArray[np.int64], draws: NDArray[np.int64], *, hits: list[int], among: list[int]
) -> Estimate:
    """Return the share of columns ``hits`` in columns ``among``, pooled, bootstrapped over requests.

    A bootstrap of all or nothing has no width; there, Wilson's interval over the requests concerned is taken.
    """
    hit, total = int(counts[:, hits].sum()), int(counts[:, among].sum())
    if total == 0:
        return Estimate(None, None, None)
    if hit in (0, total):
        concerned = int((counts[:, among].sum(axis=1) > 0).sum())
        return Estimate(hit / total, *wilson_interval(concerned if hit else 0, concerned))
    with np.errstate(invalid="ignore"):
        shares = draws[:, hits].sum(axis=1) / draws[:, among].sum(axis=1)
    return _between(hit / total, shares)


def _kappa(counts: NDArray[np.int64], draws: NDArray[np.int64]) -> Estimate:
    value = float(_kappa_of(counts.sum(axis=0, keepdims=True))[0])
    return Estimate(None, None, None) if np.isnan(value) else _between(value, _kappa_of(draws))


def _kappa_of(totals: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return Cohen's kappa per row of tp, fn, tn, fp: (observed - chance) / (1 - chance); NaN if chance is 1."""
    tp, fn, tn, fp = totals.T.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        n = tp + fn + tn + fp
        chance = ((tp + fn) * (tp + fp) + (tn + fp) * (tn + fn)) / n**2
        result: NDArray[np.float64] = ((tp + tn) / n - chance) / (1 - chance)
    return np.where(np.isfinite(result), result, np.nan)


def _between(value: float, draws: NDArray[np.float64]) -> Estimate:
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


_UNMEASURED = {
    "lab-oracle": (
        "ground truth of the lab: the oracle reads facts, so there are no labels to agree with",
        "It judges texts of the lab only.",
    ),
    "llm": (
        "none: this model has not been compared with people as a judge",
        "Its error is unknown: compare a sample of its verdicts with your own before you rely on a rate.",
    ),
}


def packaged_card(name: str, panel: Mapping[Aspect, Judge] | None = None) -> dict[str, Any]:
    """Return the card of a named panel as JSON values.

    Judges that were measured have a packaged card; the others one without numbers (``n`` 0) that says so. A
    card that was measured with another version of the judge than the one in ``panel`` is marked ``stale``.

    Raises:
        KeyError: There is no panel of that name.
    """
    if name in _UNMEASURED:
        return _unmeasured(name, panel or {})
    path = resources.files("toxoid.judges").joinpath("cards", f"{name}.json")
    if not path.is_file():
        raise KeyError(name)
    card: dict[str, Any] = json.loads(path.read_text("utf-8"))
    judge = (panel or {}).get(card["aspect"])
    card["stale"] = judge is not None and judge.identity() != card["identity"]
    return card


def _unmeasured(name: str, panel: Mapping[Aspect, Judge]) -> dict[str, Any]:
    source, weakness = _UNMEASURED[name]
    nothing = asdict(Estimate(None, None, None))
    rates = {rate: dict(nothing) for rate in ("accuracy", "kappa", "sensitivity", "specificity")}
    return {
        "name": name,
        "aspects": sorted(panel),
        "n": 0,
        **rates,
        "source": source,
        "weaknesses": [weakness],
        "stale": False,
    }
