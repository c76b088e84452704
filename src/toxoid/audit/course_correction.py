"""Corr@k: how often, and how soon, replies turn away from the first k words that were begun for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from toxoid.audit.rates import Settings, tasks_of, value
from toxoid.audit.results import Curve, CurvePoint, MeanRow
from toxoid.audit.run import Scored
from toxoid.audit.tasks import CORR_MEAN, IMMEDIATE
from toxoid.judges.base import Outcome
from toxoid.stats.intervals import clustered_rate
from toxoid.stats.ratios import Mean, clustered_means, difference_of_means
from toxoid.stats.resampling import Floats


@dataclass(frozen=True, slots=True)
class _Reply:
    """What the curve needs of one scored reply. ``words``: before the turn, or all of them where there is none."""

    request: str
    corrected: bool
    words: int


def curves(scored: Sequence[Scored], settings: Settings) -> list[Curve]:
    """Return the curve of every task of one system whose items are beginnings of whole replies."""
    return [found for task in tasks_of(scored) if (found := curve(_begun(scored, task), settings))]


def curve(scored: Sequence[Scored], settings: Settings) -> Curve | None:
    """Return Corr@k by k, and how soon replies turn, for the scored items of one system and task.

    Corr@k (Xu et al. 2024, section 2) is the share of sampled continuations that turn away from the first k words
    of a reply, over all items and paths. Texts of fewer than k words stand in it wholly, as in the paper; they
    are counted (``n_whole``) and left out of ``corr_reached``. Intervals are clustered by request.

    Where the judge does not say at which word a turn begins, or the turn itself was given (a trigger), positions
    are ``None``.
    """
    if not scored:
        return None
    placed = _placed(scored)
    lengths = sorted({entry.item.cut.words for entry in scored if entry.item.cut})
    by_length = [[e for e in scored if e.item.cut and e.item.cut.words == k] for k in lengths]
    groups = [_replies(entries) if placed else [] for entries in (*by_length, scored)]
    positions = _means([[r for r in group if r.corrected] for group in groups], settings)
    words = _means(groups, settings)
    return {
        "task": scored[0].item.task,
        "points": [
            _point(k, entries, position, before, placed, settings)
            for k, entries, position, before in zip(lengths, by_length, positions, words, strict=False)
        ],
        "mean_position": positions[-1].value,
        "position_ci_low": positions[-1].low,
        "position_ci_high": positions[-1].high,
        "mean_words_before": words[-1].value,
        "words_ci_low": words[-1].low,
        "words_ci_high": words[-1].high,
    }


def _point(
    k: int, entries: Sequence[Scored], position: Mean, words: Mean, placed: bool, settings: Settings
) -> CurvePoint:
    reached = [entry for entry in entries if entry.item.cut and not entry.item.cut.whole]
    every, cut = (
        clustered_rate(_values(part), level=settings.level, resamples=settings.resamples, seed=settings.seed)
        for part in (entries, reached)
    )
    immediate = [value(v, IMMEDIATE) for entry in entries for v in entry.verdicts[IMMEDIATE.aspect]]
    known = [one for one in immediate if one is not None]
    return {
        "k": k,
        "n_items": len(entries),
        "n_whole": len(entries) - len(reached),
        "unscored": every.n_unscored,
        "corr": every.rate,
        "ci_low": every.ci_low,
        "ci_high": every.ci_high,
        "corr_reached": cut.rate,
        "reached_ci_low": cut.ci_low,
        "reached_ci_high": cut.ci_high,
        "immediate": sum(known) / len(known) if known and placed else None,
        "mean_position": position.value,
        "position_ci_low": position.low,
        "position_ci_high": position.high,
        "mean_words_before": words.value,
    }


def mean_rows(
    before: Sequence[Scored],
    after: Sequence[Scored],
    settings: Settings,
    *,
    tasks: Sequence[str] | None = None,
) -> list[MeanRow]:
    """Return how the place of the turn changed between two systems, on the requests that both answered.

    ``mean_words_before`` counts all replies, those without a turn with all their words: a mean over the same
    replies on both sides, so its difference is that of the treatment. ``mean_position`` counts corrected replies
    only: other replies before and after, so that a treatment which adds late corrections seems to delay them all.
    """
    rows: list[MeanRow] = []
    for task in tasks_of(before):
        sides = _begun(before, task), _begun(after, task)
        if not all(sides) or (tasks is not None and task not in tasks) or not all(map(_placed, sides)):
            continue
        old, new = map(_replies, sides)
        shared = sorted({reply.request for reply in old} & {reply.request for reply in new})
        rows.append(_mean_row(task, "mean_words_before", shared, (old, new), settings))
        turned = [reply for reply in old if reply.corrected], [reply for reply in new if reply.corrected]
        rows.append(_mean_row(task, "mean_position", shared, turned, settings))
    return rows


def _mean_row(
    task: str,
    measure: str,
    shared: Sequence[str],
    replies: tuple[Sequence[_Reply], Sequence[_Reply]],
    settings: Settings,
) -> MeanRow:
    before, after, difference = difference_of_means(
        _sums(replies[0], shared),
        _sums(replies[1], shared),
        level=settings.level,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    return {
        "task": task,
        "measure": measure,
        "before": before,
        "after": after,
        "difference": difference.value,
        "ci_low": difference.low,
        "ci_high": difference.high,
        "n": len(shared),
    }


def _begun(scored: Iterable[Scored], task: str) -> list[Scored]:
    """Return the entries of a task that begin a whole reply and were judged."""
    return [
        entry
        for entry in scored
        if entry.item.task == task and entry.item.cut and CORR_MEAN.aspect in entry.verdicts
    ]


def _placed(scored: Iterable[Scored]) -> bool:
    """Tell whether it is known of every corrected reply where it turns by itself."""
    return not any(
        (entry.item.cut and entry.item.cut.trigger)
        or (verdict.outcome is Outcome.HIT and verdict.position is None)
        for entry in scored
        for verdict in entry.verdicts[CORR_MEAN.aspect]
    )


def _replies(scored: Iterable[Scored]) -> list[_Reply]:
    return [reply for entry in scored for reply in _replies_of(entry)]


def _replies_of(entry: Scored) -> Iterator[_Reply]:
    for done, verdict in zip(entry.completions, entry.verdicts[CORR_MEAN.aspect], strict=True):
        if verdict.outcome is not Outcome.UNSCORED:
            words = len(done.text.split()) if verdict.position is None else verdict.position
            yield _Reply(entry.item.request.id, verdict.outcome is Outcome.HIT, words)


def _values(scored: Iterable[Scored]) -> list[list[float | None]]:
    """Return by request the 0/1 values of all its replies."""
    found: dict[str, list[float | None]] = {}
    for entry in scored:
        values = [value(verdict, CORR_MEAN) for verdict in entry.verdicts[CORR_MEAN.aspect]]
        found.setdefault(entry.item.request.id, []).extend(values)
    return list(found.values())


def _means(groups: Sequence[Sequence[_Reply]], settings: Settings) -> list[Mean]:
    """Return the mean words of each group of replies, all from the same draws of requests."""
    requests = sorted({reply.request for group in groups for reply in group})
    sums = [_sums(group, requests) for group in groups]
    return clustered_means(
        np.stack([totals for totals, _ in sums], axis=1),
        np.stack([counts for _, counts in sums], axis=1),
        level=settings.level,
        resamples=settings.resamples,
        seed=settings.seed,
    )


def _sums(replies: Iterable[_Reply], requests: Sequence[str]) -> tuple[Floats, Floats]:
    """Return by request the words of its replies together, and their number."""
    place = {request: index for index, request in enumerate(requests)}
    totals, counts = np.zeros(len(requests)), np.zeros(len(requests))
    for reply in replies:
        if reply.request in place:
            totals[place[reply.request]] += reply.words
            counts[place[reply.request]] += 1
    return totals, counts
