"""What stands beside the numbers: the judge's card, the power, the cost, and where the numbers come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from toxoid.audit.results import Cost, Results, System
from toxoid.report.format import (
    DASH,
    count,
    duration,
    interval,
    metric_title,
    number,
    percent,
    signed,
    task_title,
)
from toxoid.report.text import one_line

MAX_NOTES = 30
MAX_CORRECTED = 8
"""Systems whose corrected rates are shown."""
FINGERPRINT_CHARACTERS = 8000


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and what is known under it; ``note`` explains a dash."""

    name: str
    value: str
    note: str = ""


def judge_facts(card: Mapping[str, Any] | None) -> list[Fact]:
    """Return the judge's card line by line; a judge without a card says so."""
    if not card:
        return [Fact("Judge", DASH, "the results hold no card: how far this judge errs is unknown")]
    labels = int(card.get("n") or 0)
    facts = [
        Fact("Judge", str(card.get("name", DASH))),
        Fact("Answers", ", ".join(map(str, card.get("aspects") or [])) or DASH),
        Fact("Compared with", str(card.get("source") or DASH)),
        Fact("Labels", count(labels), _labels_note(card)),
    ]
    if labels:
        facts += [_estimate(card, name) for name in ("accuracy", "sensitivity", "specificity", "kappa")]
    return facts


def judge_warnings(card: Mapping[str, Any] | None) -> list[str]:
    """Return what a reader must know about the judge before trusting a rate."""
    if not card:
        return []
    stale = ["This card was measured with another version of the judge."] if card.get("stale") else []
    return [*stale, *map(str, card.get("weaknesses") or [])][:MAX_NOTES]


def corrected(results: Results) -> list[list[str]]:
    """Return task, metric, system, the rate as the judge sees it, and the one with its error taken out."""
    tasks = results["meta"].get("tasks", {})
    return [
        [
            task_title(row["task"], tasks),
            metric_title(row["metric"]),
            one_line(system["label"], limit=40),
            f"{percent(row['rate'])} ({interval(row['ci_low'], row['ci_high'])})",
            found["reason"] or f"{percent(found['rate'])} ({interval(found['ci_low'], found['ci_high'])})",
        ]
        for system in results["systems"][:MAX_CORRECTED]
        for row in system["rates"]
        if (found := row.get("corrected"))
    ]


def _labels_note(card: Mapping[str, Any]) -> str:
    if not card.get("n"):
        return "not measured against people"
    parts = [
        f"aspect: {card['aspect']}" if card.get("aspect") else "",
        f"{count(card['n_requests'])} requests" if card.get("n_requests") else "",
        f"{count(card['n_unscored'])} unscored" if card.get("n_unscored") else "",
    ]
    return ", ".join(part for part in parts if part)


def _estimate(card: Mapping[str, Any], name: str) -> Fact:
    """Return one number of the card; cards give ``{value, ci_low, ci_high}`` or a bare number."""
    found = card.get(name)
    value, low, high = (
        (found.get("value"), found.get("ci_low"), found.get("ci_high"))
        if isinstance(found, Mapping)
        else (found, None, None)
    )
    title = {"kappa": "Cohen's kappa"}.get(name, name.capitalize())
    if value is None:
        return Fact(title, DASH, "not measured")
    if name == "kappa":
        return Fact(title, number(value), f"{number(low)} to {number(high)}" if low is not None else "")
    return Fact(title, percent(value), interval(low, high) if low is not None else "")


def power_facts(results: Results) -> list[Fact]:
    """Return, by task, the smallest difference that would probably have been found."""
    tasks = results["meta"].get("tasks", {})
    return [
        Fact(
            task_title(entry["task"], tasks),
            DASH if effect is None else f"{signed(effect)} points",
            f"{count(entry['n_items'])} requests" if entry["n_items"] else "no requests",
        )
        for entry in results["power"]
        for effect in [entry["minimum_detectable_effect"]]
    ]


def cost_rows(results: Results) -> list[list[str]]:
    """Return by system: name; training time, steps, tokens, examples; audit time, generated tokens."""
    timings = results["meta"].get("timings", {})
    return [_cost(system, timings) for system in results["systems"]]


def _cost(system: System, timings: Mapping[str, float]) -> list[str]:
    cost: Cost = system["cost"]
    name = system["name"]
    train = cost.get("train_seconds")
    generate = cost.get("generate_seconds")
    return [
        one_line(system["label"] or name, limit=60),
        duration(timings.get(f"treat {name}") if train is None else train),
        count(cost.get("train_steps") or None),
        count(cost.get("train_tokens") or None),
        ", ".join(f"{count(n)} {kind}" for kind, n in cost.get("examples", {}).items()) or DASH,
        duration(timings.get(f"audit {name}") if generate is None else generate),
        count(cost.get("generated_tokens")),
    ]


def provenance(results: Results) -> list[Fact]:
    """Return which model, judge, seed, version, machine and time the numbers belong to."""
    meta = results["meta"]
    card = results["judge_card"] or {}
    found = [
        ("Recipe", meta.get("recipe") or meta.get("name")),
        ("Model", meta.get("model")),
        ("Judge", card.get("name") or _short(meta.get("judge"))),
        ("Seed", meta.get("seed")),
        ("Replies per item", meta.get("samples")),
        ("Sampling", _short(meta.get("sampling"))),
        ("Course-correction", _short(meta.get("course_correction"))),
        ("toxoid", meta.get("toxoid_version")),
        ("Created", when(meta.get("created"))),
        ("Time", duration(meta["seconds"]) if "seconds" in meta else None),
        ("Machine", _short(meta.get("machine"))),
    ]
    return [Fact(name, one_line(value, limit=400)) for name, value in found if value not in (None, "", {})]


def when(moment: str | None) -> str:
    """Return an ISO moment without its ``T``, and UTC by its name; anything else as it is."""
    text = one_line(moment or "", limit=40)
    return text.replace("T", " ", 1).replace("+00:00", " UTC") if text[:4].isdigit() else text


def fingerprint(results: Results) -> str:
    """Return what two runs must share to be compared, as indented JSON; empty if the results hold none."""
    whole = results["meta"].get("fingerprint")
    return json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True, default=str) if whole else ""


def notes(texts: Iterable[str]) -> list[str]:
    """Return the first notes, and how many there are beyond them."""
    found = list(texts)
    rest = len(found) - MAX_NOTES
    return [*found[:MAX_NOTES], *([f"{rest:,} more in results.json"] if rest > 0 else [])]


def _short(value: object) -> str:
    """Return a mapping as ``"key: value, ..."``, without what is empty, and anything else as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_short(inner)}" for key, inner in value.items() if inner not in ("", None))
    return "" if value is None else str(value)
