"""Measures a judge on labelled texts: its card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np

from toxoid.data.labelled import WORDS, LabelledExchange, read_labelled
from toxoid.data.registry import DATASETS
from toxoid.data.request_set import hash_fraction
from toxoid.errors import UsageError
from toxoid.judges.base import Aspect, Judge, Outcome, Verdict
from toxoid.judges.card import BY_PATH, Labelled, agreement_of, measure
from toxoid.judges.panel import Panel
from toxoid.loop.judging import panel_of
from toxoid.progress import SILENT, Progress
from toxoid.stats.agreement import area_under_roc, calibration_bins, expected_calibration_error

SHORT, LONG = 100, 500
"""Characters of the judged text up to which it is short, and from which on it is long."""
_BATCH = 512
_PREFERRED: dict[bool, tuple[Aspect, ...]] = {False: ("problematic",), True: ("refusal", "harmful")}
"""By whether there are replies: what is measured if nothing is asked for."""
WEAKNESSES = (
    "English only, unless its training says otherwise: other languages and scripts are read with no evidence.",
    "A request that hides what it asks for (encodings, splitting over turns) can pass unseen.",
)


def evaluate_judge(
    data: Sequence[str],
    *,
    name: str,
    aspect: str | None = None,
    judge_model: str | None = None,
    judge_endpoint: str | None = None,
    limit: int | None = None,
    command: str = "",
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Return the card of a judge, measured on labelled data.

    Args:
        data: Names of sets or files, see :func:`toxoid.data.labelled.read_labelled`.
        name: As for ``--judge``.
        aspect: What to measure; by default what the labels and the judge have in common.
        judge_model: What the LLM judge asks.
        judge_endpoint: Its server.
        limit: At most so many of each source, chosen by hash.
        command: Kept on the card.
        progress: Where to report.

    Raises:
        UsageError: The data, the judge or the aspect cannot work.
    """
    items = _limited(read_labelled(*data), limit)
    panel = _named(panel_of(name, model=judge_model, endpoint=judge_endpoint))
    chosen = _aspect(aspect, panel, items, name)
    return card_of(panel[chosen], chosen, items, command=command, progress=progress)


def card_of(
    judge: Judge,
    aspect: Aspect,
    items: Sequence[LabelledExchange],
    *,
    by_source: Sequence[LabelledExchange] | None = None,
    command: str = "",
    details: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Return a judge's card on labelled exchanges: agreement and calibration, agreement by source, category and length.

    Args:
        judge: To be measured.
        aspect: What is asked of it.
        items: What people said.
        by_source: What the rows by source are made of, if not of ``items``.
        command: Kept on the card.
        details: What else the card says.
        progress: Where to report.
    """
    verdicts = _verdicts(judge, aspect, items, progress)
    labelled = list(map(_labelled, items))
    slices, said = (
        (items, verdicts) if by_source is None else (by_source, _verdicts(judge, aspect, by_source, progress))
    )
    sources = sorted({item.source for item in items})
    known = {DATASETS[name].licence for name in sources if name in DATASETS}
    card = measure(
        cast(Judge, _Said(judge, aspect, verdicts)),
        labelled,
        aspect,
        source=", ".join(sources),
        licence=", ".join(sorted(known)) or "not stated",
        weaknesses=WEAKNESSES,
    ).to_dict()
    by_category = card.pop("by_group")
    return {
        **card,
        **_calibration(verdicts, labelled),
        "by_category": by_category,
        "by_source": _by(lambda item: item.source, slices, said),
        "by_length": _by(lambda item: _length(item, aspect), items, verdicts),
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        **(details or {}),
    }


def _labelled(item: LabelledExchange) -> Labelled:
    return Labelled(item.exchange, item.human, item.group)


class _Said:
    """A judge that has spoken: its verdicts on one list of exchanges."""

    def __init__(self, judge: Judge, aspect: Aspect, verdicts: list[Verdict]) -> None:
        self.name, self.aspects = judge.name, judge.aspects
        self._judge, self._aspect, self._verdicts = judge, aspect, verdicts

    def identity(self) -> dict[str, Any]:
        return self._judge.identity()

    def judge(self, exchanges: Sequence[Any], aspect: Aspect) -> list[Verdict]:
        return self._verdicts


def _verdicts(
    judge: Judge, aspect: Aspect, items: Sequence[LabelledExchange], progress: Progress
) -> list[Verdict]:
    found: list[Verdict] = []
    with progress.task("verdicts", len(items), "texts") as task:
        for start in range(0, len(items), _BATCH):
            part = [item.exchange for item in items[start : start + _BATCH]]
            found += judge.judge(part, aspect)
            task.advance(len(part))
    return found


def _calibration(verdicts: Sequence[Verdict], labelled: Sequence[Labelled]) -> dict[str, Any]:
    """Return AUROC, calibration error and the reliability diagram, where all scored verdicts have a score."""
    pairs = [
        (verdict.score, item.human)
        for verdict, item in zip(verdicts, labelled, strict=True)
        if verdict.outcome is not Outcome.UNSCORED
    ]
    if not pairs or any(score is None for score, _ in pairs):
        return {}
    scores = np.array([score for score, _ in pairs], dtype=np.float64)
    labels = np.array([float(human) for _, human in pairs])
    return {
        "auroc": area_under_roc(scores, labels),
        "ece": expected_calibration_error(scores, labels),
        "calibration": [asdict(each) for each in calibration_bins(scores, labels)],
    }


def _by(
    key: Callable[[LabelledExchange], str],
    items: Sequence[LabelledExchange],
    verdicts: Sequence[Verdict],
) -> dict[str, Any]:
    labelled = list(map(_labelled, items))
    places: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        places[key(item)].append(index)
    return {
        name: asdict(agreement_of([verdicts[i] for i in found], [labelled[i] for i in found]))
        for name, found in sorted(places.items())
    }


def _length(item: LabelledExchange, aspect: Aspect) -> str:
    text = item.exchange.request.prompt if aspect == "problematic" else item.exchange.completion
    if len(text) <= SHORT:
        return f"up to {SHORT} characters"
    return f"{SHORT} to {LONG} characters" if len(text) <= LONG else f"more than {LONG} characters"


def _limited(items: list[LabelledExchange], limit: int | None) -> list[LabelledExchange]:
    if limit is None:
        return items
    if limit < 1:
        raise UsageError(f"a limit of {limit} texts was given; expected 1 or more")
    kept: list[LabelledExchange] = []
    for source in dict.fromkeys(item.source for item in items):
        own = [item for item in items if item.source == source]
        ranked = sorted(
            own, key=lambda item: hash_fraction("limit", item.exchange.request.id, item.exchange.completion)
        )
        kept += ranked[:limit]
    return kept


def _named(panel: Panel) -> Panel:
    """Return the judges by path, where there are any: the rules below them are not what was asked for."""
    return {
        aspect: judge for aspect, judge in panel.items() if judge.identity().get("judge") in BY_PATH
    } or panel


def _aspect(asked: str | None, panel: Panel, items: Sequence[LabelledExchange], name: str) -> Aspect:
    replies = any(item.exchange.completion for item in items)
    wanted = (cast(Aspect, asked),) if asked else _preferred(replies, items)
    found = next((aspect for aspect in wanted if aspect in panel), None)
    if found is None:
        raise UsageError(
            f"the judge {name} answers {', '.join(sorted(panel))}, and {' or '.join(wanted)} was to be measured: "
            f"give --aspect, or {'a judge of replies' if replies else 'a judge of prompts'}"
        )
    foreign = WORDS["harm" if found == "refusal" else "refusal"]
    if wrong := next((item.label for item in items if item.label in foreign), None):
        raise UsageError(
            f'a text is labelled "{wrong}", and {found} was to be measured: give --aspect, another judge or other data'
        )
    if found != "problematic" and not replies:
        raise UsageError(
            f"{found} is judged of replies, and the data has none: give a file with a column completion"
        )
    return found


def _preferred(replies: bool, items: Sequence[LabelledExchange]) -> tuple[Aspect, ...]:
    if replies and any(item.label in ("problematic", "harmless") for item in items):
        return ("harmful",)
    return _PREFERRED[replies]
