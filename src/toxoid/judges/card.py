"""Judge cards: how far a judge agrees with people, on which labels, and where it fails."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toxoid.data.schemas import Exchange
from toxoid.errors import UsageError
from toxoid.judges.base import Aspect, Judge, Outcome, Verdict
from toxoid.judges.folders import ENCODER, encoder_folders
from toxoid.judges.panel import panel_parts
from toxoid.judges.registry import NAMES
from toxoid.plugins import JUDGES
from toxoid.stats.agreement import Agreement, Estimate, binary_agreement
from toxoid.stats.intervals import wilson_interval

RESAMPLES = 2000
CARD = "card.json"
"""In the folder of a judge."""


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
class JudgeCard:
    """What a report says about a judge.

    Args:
        name: The judge's name.
        aspect: The aspect measured.
        aspects: All aspects it answers.
        identity: What its verdicts depend on; a card is about this version only.
        n_requests: Different requests among the labelled exchanges.
        agreement: Over all labelled exchanges; intervals are clustered by request.
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
    n_requests: int
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
            "n_requests": self.n_requests,
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
        n_requests=len({item.exchange.request.id for item in labelled}),
        agreement=agreement_of(verdicts, labelled),
        by_group=by_group,
        source=source,
        licence=licence,
        weaknesses=tuple(weaknesses),
        details=details or {},
    )


def agreement_of(verdicts: Sequence[Verdict], labelled: Sequence[Labelled]) -> Agreement:
    """Return the agreement of verdicts with labels.

    Where a request has several exchanges they are not independent; its intervals are then bootstrapped over
    requests instead of Wilson's over exchanges.
    """
    said = [_as_number(verdict) for verdict in verdicts]
    plain = binary_agreement(said, [float(item.human) for item in labelled])
    cells: dict[str, list[int]] = {}  # request id -> counts of tp, fn, tn, fp
    for hit, item in zip(said, labelled, strict=True):
        if hit is not None:
            cell = (0 if hit else 1) if item.human else (3 if hit else 2)
            cells.setdefault(item.exchange.request.id, [0, 0, 0, 0])[cell] += 1
    if all(sum(counts) == 1 for counts in cells.values()):
        return plain
    return _clustered(plain, np.array(list(cells.values()), dtype=np.int64))


def _as_number(verdict: Verdict) -> float | None:
    return None if verdict.outcome is Outcome.UNSCORED else float(verdict.outcome is Outcome.HIT)


def _clustered(plain: Agreement, counts: NDArray[np.int64]) -> Agreement:
    """Return ``plain`` with intervals by request; ``counts`` has a row of tp, fn, tn, fp per request."""
    requests = len(counts)
    draws = np.random.default_rng(0).multinomial(requests, np.full(requests, 1 / requests), size=RESAMPLES)
    totals = draws @ counts
    tp, fn, tn, fp = totals.T.astype(np.float64)
    n = tp + fn + tn + fp
    chance = ((tp + fn) * (tp + fp) + (tn + fp) * (tn + fn)) / n**2
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw without positives or negatives
        return replace(
            plain,
            accuracy=_around(plain.accuracy, (tp + tn) / n, counts),
            sensitivity=_around(plain.sensitivity, tp / (tp + fn), counts[:, :2]),
            specificity=_around(plain.specificity, tn / (tn + fp), counts[:, 2:]),
            kappa=_around(plain.kappa, ((tp + tn) / n - chance) / (1 - chance)),
        )


def _around(plain: Estimate, draws: NDArray[np.float64], counts: NDArray[np.int64] | None = None) -> Estimate:
    """Return the estimate with the percentile interval of ``draws``.

    A share (then ``counts`` are its cells per request) of all or nothing has no width in a bootstrap; there
    it is Wilson's interval over the requests concerned.
    """
    if plain.value is None:
        return plain
    if counts is not None and plain.value in (0.0, 1.0):
        concerned = int((counts.sum(axis=1) > 0).sum())
        return Estimate(plain.value, *wilson_interval(concerned if plain.value else 0, concerned))
    low, high = np.quantile(draws[np.isfinite(draws)], [0.025, 0.975])
    return Estimate(plain.value, float(low), float(high))


BY_PATH = ("classifier", "guard")
"""Kinds of judges that are given by path, as their identities say."""
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
    """Return the card of a panel as JSON values: of its last judge of replies, which are what audits count.

    Judges that were measured have a card: a packaged one, or the ``card.json`` in their folder. The others get one
    without numbers (``n`` 0) that says so. A card that was measured with another version of the judge than the one in
    ``panel`` is marked ``stale``.

    Raises:
        KeyError: There is no panel of that name.
        UsageError: A card in a folder is damaged.
    """
    cards = [card for part in panel_parts(name) for card in _cards(part, panel or {})]
    of_replies = [card for card in cards if set(card["aspects"]) != {"problematic"}]
    return (of_replies or cards)[-1]


def _cards(part: str, panel: Mapping[Aspect, Judge]) -> list[dict[str, Any]]:
    if part in _UNMEASURED:
        return [_unmeasured(part, sorted(panel), *_UNMEASURED[part])]
    if part == ENCODER:
        return [_folder_card(folder, panel) for folder in encoder_folders()]
    if part not in NAMES and (plugin := JUDGES.find(part)):
        aspects = [a for a, judge in sorted(panel.items()) if judge.identity().get("plugin") == str(plugin)]
        return [_unmeasured(part, aspects, *_UNMEASURED["llm"])]
    if part not in NAMES:
        return [_folder_card(Path(part).expanduser(), panel)]
    path = resources.files("toxoid.judges").joinpath("cards").joinpath(f"{part}.json")
    return [_compared(json.loads(path.read_text("utf-8")), panel)]


def _folder_card(folder: Path, panel: Mapping[Aspect, Judge]) -> dict[str, Any]:
    """Return the card in a judge's folder, or one without numbers."""
    from toxoid.engines.classifiers.folders import FACTS
    from toxoid.engines.shield import read_json

    if (folder / CARD).is_file():
        card = read_json(folder / CARD)
        if not isinstance(card, dict) or not {"aspect", "aspects", "identity"} <= card.keys():
            raise UsageError(f"{folder / CARD} is no judge's card: make it again with `toxoid judge eval`")
        return _compared(card, panel)
    aspects = [aspect for aspect, judge in sorted(panel.items()) if judge.identity().get("judge") in BY_PATH]
    if (folder / FACTS).is_file():
        aspects = [read_json(folder / FACTS)["labels"]["aspect"]]
    if not aspects:
        raise KeyError(str(folder))
    return _unmeasured(folder.name, aspects, *_UNMEASURED["llm"])


def _compared(card: dict[str, Any], panel: Mapping[Aspect, Judge]) -> dict[str, Any]:
    judge = panel.get(card["aspect"])
    return card | {"stale": judge is not None and judge.identity() != card["identity"]}


def _unmeasured(name: str, aspects: Sequence[str], source: str, weakness: str) -> dict[str, Any]:
    nothing = asdict(Estimate(None, None, None))
    rates = {rate: dict(nothing) for rate in ("accuracy", "kappa", "sensitivity", "specificity")}
    return {
        "name": name,
        "aspects": list(aspects),
        "n": 0,
        **rates,
        "source": source,
        "weaknesses": [weakness],
        "stale": False,
    }
