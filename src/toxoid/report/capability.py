"""What the page says of capability: held-out text, and what lm-eval measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toxoid.audit.capability import BITS, PERPLEXITY, TEXTS
from toxoid.audit.results import CapabilityRow, CapabilityScore, Results
from toxoid.report.format import DASH, MINUS, count, finite, interval, number, points
from toxoid.report.view import shown_systems

_TITLES = {
    (TEXTS, BITS): "Bits per byte of held-out text",
    (TEXTS, PERPLEXITY): "Perplexity per token of it",
}


@dataclass(frozen=True, slots=True)
class CapabilityLine:
    """One number: of a single system with its interval, or of two with their difference and its interval."""

    name: str
    before: str
    after: str
    difference: str
    interval: str
    n: str
    state: str
    note: str


def capability(results: Results) -> list[CapabilityLine]:
    """Return the lines of the headline comparison, or of the system that was audited."""
    headline = next((one for one in results["comparisons"] if one["headline"]), None)
    if headline is not None:
        return [_difference(row) for row in headline.get("capability", [])]
    return [_score(score) for system in shown_systems(results) for score in system.get("capability", [])]


def _score(score: CapabilityScore) -> CapabilityLine:
    value, low, high = score["value"], score["ci_low"], score["ci_high"]
    between = f"{number(low, decimals=3)} to {number(high, decimals=3)}" if finite(low) is not None else DASH
    title = _title(score["task"], score["metric"])
    return CapabilityLine(title, "", number(value, decimals=3), "", between, count(score["n"]), "unclear", "")


def _difference(row: CapabilityRow) -> CapabilityLine:
    ends = [end for end in (row["ci_low"], row["ci_high"]) if end is not None]
    state = _state(ends, row)
    before, after = (number(row[side], decimals=3) for side in ("before", "after"))
    if row["relative"]:
        told = f"{points(row['difference'])} %", f"{interval(row['ci_low'], row['ci_high'])} %"
    else:
        told = _signed(row["difference"]), f"{_signed(row['ci_low'])} to {_signed(row['ci_high'])}"
    note = "" if row["paired"] else "not paired"
    title = _title(row["task"], row["metric"])
    return CapabilityLine(title, before, after, told[0], told[1], count(row["n"]), state, note)


def _state(ends: Sequence[float], row: CapabilityRow) -> str:
    if len(ends) < 2 or ends[0] <= 0 <= ends[1] or row["better"] == "none":
        return "unclear"
    return "better" if (ends[0] > 0) == (row["better"] == "higher") else "worse"


def _signed(value: float | None) -> str:
    known = finite(value)
    return DASH if known is None else f"{known:+.3f}".replace("-", MINUS)


def _title(task: str, metric: str) -> str:
    return _TITLES.get((task, metric)) or f"{task}: {metric}"
