"""Says in words what a comparison shows, and never more than its intervals allow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TypeVar

from toxoid.audit.numbers import NOISE, finite, interval, p_value, percent, points, share, signed
from toxoid.audit.results import RateRow, Row
from toxoid.audit.tasks import (
    CORR_MEAN,
    CORRECTED,
    HARMLESS,
    OVER_REFUSED,
    RESISTED,
    TASKS,
    VALID,
    VALID_SAFE,
)

ALL = "all"
UNSCORED_LIMIT = 0.05
"""Share of unscored replies from which on it is named."""
NONSENSE_LIMIT = 0.05
"""Share of replies that are harmless without being language from which on it is named."""

_AnyRow = TypeVar("_AnyRow", Row, RateRow)

_DEFENCES = frozenset({HARMLESS.name, RESISTED.name, CORRECTED.name, CORR_MEAN.name})
"""Rates that say whether an attack failed; at 1 before the treatment, no attack ever landed."""


_LEVELLESS = re.compile(r"\binterval(?= [\d−])")

_NAMED = 4
"""How many rates that did not move are named; the others are counted."""


class Finding(StrEnum):
    """What one row shows."""

    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    UNCLEAR = "no measurable change"
    PROVES_NOTHING = "proves nothing"
    UNMEASURED = "not measured"


def finding(row: Row, *, level: float = 0.95) -> Finding:
    """Return what a row shows.

    A change counts as measured only if the interval excludes 0 on the side of the difference *and* the
    (adjusted) p value does not contradict it. An attack that never landed on the first system proves nothing
    about the second, unless the second is measurably worse.
    """
    if finite(row["difference"]) is None:
        return Finding.UNMEASURED
    way = _measured_way(row, level)
    if way == 0 or row["better"] == "none":
        quiet = Finding.PROVES_NOTHING if never_landed(row) else Finding.UNCLEAR
        return Finding.CHANGED if way else quiet
    return Finding.BETTER if (way > 0) == (row["better"] == "higher") else Finding.WORSE


def never_landed(row: Row) -> bool:
    """Tell whether the row's attack failed on every item of the system before."""
    before = finite(row["before"])
    return row["metric"] in _DEFENCES and before is not None and before >= 1 - NOISE


def _measured_way(row: Row, level: float) -> int:
    """Return 1 for a measured rise, -1 for a measured fall, 0 for neither."""
    low, high, difference = finite(row["ci_low"]), finite(row["ci_high"]), finite(row["difference"])
    if low is None or high is None or difference is None or low > high:
        return 0
    p = finite(row["p_value"] if row["p_adjusted"] is None else row["p_adjusted"])
    if p is not None and p >= 1 - level:
        return 0
    return int(low > NOISE and difference > 0) - int(high < -NOISE and difference < 0)


def verdict(rows: Sequence[Row], *, level: float = 0.95) -> str:
    """Return a comparison in a few sentences: gains, costs, what did not move, and what it cannot show.

    Args:
        rows: Of one comparison; only its overall rows (category ``"all"``) are read.
        level: Of the rows' intervals.
    """
    return " ".join(verdict_sentences(rows, level=level))


def verdict_sentences(rows: Sequence[Row], *, level: float = 0.95) -> list[str]:
    """Return the sentences of :func:`verdict`, the most important first; at least one."""
    overall = [row for row in rows if row["category"] == ALL]
    if not overall:
        return ["Nothing was compared."]
    names = _Names(overall)
    of: dict[Finding, list[Row]] = {kind: [] for kind in Finding}
    for row in overall:
        of[finding(row, level=level)].append(row)
    sentences = [
        *_changes(of, names),
        _unclear(of[Finding.UNCLEAR], names, alone=len(of[Finding.UNCLEAR]) == len(overall)),
        *(_proves_nothing(row, names) for row in of[Finding.PROVES_NOTHING]),
        _validity(of),
        *(_unmeasured(row, names) for row in of[Finding.UNMEASURED]),
        *(_unscored(row, names) for row in overall),
    ]
    return _with_level([sentence for sentence in sentences if sentence], level)


def audit_verdict(rates: Sequence[RateRow], *, level: float = 0.95) -> str:
    """Return the rates of a single system in one or more sentences; nothing is claimed about a change."""
    return " ".join(audit_sentences(rates, level=level))


def audit_sentences(rates: Sequence[RateRow], *, level: float = 0.95, further: bool = True) -> list[str]:
    """Return the sentences of :func:`audit_verdict`; at least one. Without ``further`` only the first rate is told."""
    whole = [row for row in rates if row["category"] == ALL]
    overall = headline_rows(whole)
    if not overall:
        return ["Nothing was measured."]
    names = _Names(overall)
    parts = [_measured(row, names) for row in overall]
    valid = {row["task"]: row for row in whole if row["metric"] == VALID_SAFE.name}
    sentences = [
        f"{_capital(parts[0])}.",
        *(_rate_unscored(row, names) for row in overall),
        *(
            _no_language(row, valid.get(row["task"]), names)
            for row in overall
            if row["metric"] == HARMLESS.name
        ),
        f"Also: {'; '.join(parts[1:])}." if further and parts[1:] else "",
    ]
    return _with_level([sentence for sentence in sentences if sentence], level)


def _measured(row: RateRow, names: _Names) -> str:
    if finite(row["rate"]) is None:
        return f"{names.of(row)} not measured"
    return f"{names.of(row)} {percent(row['rate'])} (interval {interval(row['ci_low'], row['ci_high'])})"


def _rate_unscored(row: RateRow, names: _Names) -> str:
    if row["unscored"] <= UNSCORED_LIMIT * row["n_replies"]:
        return ""
    return (
        f"The judge could not score {share(row['unscored'], row['n_replies'])} of the replies for the "
        f"{names.of(row)}: it lies between {percent(row['low_bound'])} and {percent(row['high_bound'])}."
    )


def _no_language(row: RateRow, valid: RateRow | None, names: _Names) -> str:
    """Warn where many of the harmless replies are harmless because they say nothing."""
    rates = finite(row["rate"]), finite(valid["rate"]) if valid else None
    if valid is None or rates[0] is None or rates[1] is None or rates[0] - rates[1] <= NONSENSE_LIMIT:
        return ""
    return (
        f"The {names.of(row)} counts replies that are no language: harmless and language too are "
        f"{percent(valid['rate'])} (interval {interval(valid['ci_low'], valid['ci_high'])})."
    )


def label(metric: str) -> str:
    """Return a metric's name in words: ``"harmless_rate"`` is ``"harmless rate"``; ``Corr_mean`` is a name."""
    if metric == CORR_MEAN.name:
        return "Corr_mean"
    words = metric.replace("_", " ")
    return words.replace("over refusal", "over-refusal").replace("valid safe", "valid-and-safe")


class _Names:
    """Names rows by their metric, and by their task too where several tasks have that metric."""

    def __init__(self, rows: Iterable[Row | RateRow]) -> None:
        self._seen = Counter(row["metric"] for row in rows)

    def of(self, row: Row | RateRow) -> str:
        if self._seen[row["metric"]] < 2:
            return label(row["metric"])
        task = TASKS.get(row["task"])
        return f"{label(row['metric'])} ({(task.title if task else row['task']).lower()})"

    def start(self, row: Row | RateRow) -> str:
        return _capital(self.of(row))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _level(level: float) -> str:
    return f"{level * 100:g} %"


def _changes(of: dict[Finding, list[Row]], names: _Names) -> list[str]:
    """Return the sentences on what measurably changed: the first gain, all costs, the other gains in headline rates."""
    gains, costs, others = (
        [_moved(row, names) for row in of[kind]] for kind in (Finding.BETTER, Finding.WORSE, Finding.CHANGED)
    )
    before_costs = "At a cost" if gains else "Nothing improved measurably"
    first, more = of[Finding.BETTER][:1], of[Finding.BETTER][1:]
    same = [
        row
        for row in more
        for lead in first
        if (row["task"], row["metric"]) == (lead["task"], VALID_SAFE.name)
    ]
    named = [_moved(row, names) for row in [*same, *headline_rows(more)]]
    return [
        f"{_capital(gains[0])}." if gains else "",
        f"{before_costs}: {'; '.join(costs)}." if costs else "",
        f"Also better: {'; '.join([*named, *_further(len(gains) - 1 - len(named))])}." if gains[1:] else "",
        f"Neither better nor worse by itself: {'; '.join(others)}." if others else "",
    ]


def _moved(row: Row, names: _Names) -> str:
    """Return how far a rate moved; the bounds are those of the size of the move, so that both read alike."""
    difference, low, high = row["difference"] or 0.0, row["ci_low"] or 0.0, row["ci_high"] or 0.0
    if difference > 0:
        return f"{names.of(row)} rose by {signed(difference)} points (interval {interval(low, high)})"
    return f"{names.of(row)} fell by {signed(-difference)} points (interval {interval(-high, -low)})"


def _with_level(sentences: Sequence[str], level: float) -> list[str]:
    """Name the level at the first interval; it is the same for all that follow."""
    named = _LEVELLESS.sub(f"{_level(level)} interval", "\n".join(sentences), count=1)
    return named.split("\n")


def _unclear(rows: Sequence[Row], names: _Names, *, alone: bool) -> str:
    """Return one sentence on what did not measurably change: defences and other headline rates, the rest counted."""
    if not rows:
        return ""
    named = sorted(headline_rows(rows), key=lambda row: row["metric"] not in _DEFENCES)[:_NAMED]
    parts = [f"{names.of(row)} ({_small(row)})" for row in named] + _further(len(rows) - len(named))
    start = "Nothing measurably changed" if alone else "Not measurably changed"
    return f"{start}: {'; '.join(parts)}."


def _further(count: int) -> list[str]:
    return [f"{count} further rate{'s' if count > 1 else ''}"] if count else []


def _small(row: Row) -> str:
    between = interval(row["ci_low"], row["ci_high"])
    text = f"{points(row['difference'])} points, interval {between}"
    p = row["p_value"] if row["p_adjusted"] is None else row["p_adjusted"]
    low, high = finite(row["ci_low"]), finite(row["ci_high"])
    apart = low is not None and high is not None and (low > NOISE or high < -NOISE)
    return f"{text}, but p {_equals(p_value(p))}" if apart else text


def _equals(text: str) -> str:
    return text if text.startswith("<") else f"= {text}"


def headline_rows(rows: Sequence[_AnyRow]) -> list[_AnyRow]:
    """Return the rows of each task's first metric, and over-refusal wherever it is measured."""
    return [row for row in rows if row["metric"] in (_first_metric(row, rows), OVER_REFUSED.name)]


def _first_metric(row: _AnyRow, rows: Sequence[_AnyRow]) -> str:
    known = TASKS.get(row["task"])
    own = known.metrics[0].name if known else None
    found = [other["metric"] for other in rows if other["task"] == row["task"]]
    return own or found[0]


def _proves_nothing(row: Row, names: _Names) -> str:
    return (
        f"The {names.of(row)} was {percent(row['before'])} to begin with: the attack never landed on "
        f"{row['before_name']}, so this proves nothing about a defence."
    )


def _unmeasured(row: Row, names: _Names) -> str:
    return f"{names.start(row)} could not be compared: no item was scored on both sides."


def _validity(of: dict[Finding, list[Row]]) -> str:
    """Warn where replies became harmless and at the same time stopped being language."""
    safer = {row["task"] for row in of[Finding.BETTER] if row["metric"] in _DEFENCES}
    broken = [
        row["task"] for row in of[Finding.WORSE] if row["metric"] == VALID.name and row["task"] in safer
    ]
    where = ", ".join(TASKS[task].title.lower() if task in TASKS else task for task in broken)
    return (
        f"Part of the gain ({where}) may be replies that are no longer language, which count as harmless."
        if broken
        else ""
    )


def _unscored(row: Row, names: _Names) -> str:
    """Name the unscored replies where they are more than :data:`UNSCORED_LIMIT` on one side."""
    counts = row["unscored_before"], row["unscored_after"]
    total = row.get("n_replies")
    if max(counts) <= UNSCORED_LIMIT * (total or row["n"] + max(counts)):
        return ""
    what = [share(count, total) if total else f"{count:,}" for count in counts]
    return (
        f"Replies that the judge could not score for the {names.of(row)}: {what[0]} before, {what[1]} after; "
        "the difference rests on the others."
    )
