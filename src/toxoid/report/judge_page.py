"""Writes the page of a trained judge: one self-contained file without scripts that opens from disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from toxoid.report import judge_card, judge_view, svg
from toxoid.report.calibration import calibration_plot
from toxoid.report.facts import Fact, judge_warnings
from toxoid.report.format import count
from toxoid.report.html import environment, marked, style_of
from toxoid.report.judge_view import Record, Training
from toxoid.report.text import one_line
from toxoid.report.view import MAX_CATEGORIES

_EXAMPLE, _RECIPE = 500, 4000
"""Longest example and recipe shown, in characters."""
_ARMS: dict[str, svg.Mark] = {"adversary": "circle", "control": "square"}


def render_judge_page(results: Mapping[str, Any]) -> str:
    """Return the results of a judge's training as one HTML page.

    Text from models and data is escaped; characters that hide, reorder or control are shown as markers. The page loads
    nothing: its content security policy allows the page's own style sheet only.

    Args:
        results: ``kind`` ("judge"), ``recipe``, ``command``, ``data``, ``arms`` (records of rounds by arm, or none),
            ``adopted`` (a round's number) and ``card``; see :mod:`toxoid.loop.judge_training`.

    Raises:
        UsageError: ``results`` does not have that layout.
    """
    training = judge_view.checked(results)
    return (
        environment()
        .get_template("judge.html.jinja")
        .render(
            **_verdict(results, training),
            **_rounds(training),
            **_card(results["card"]),
            **_origin(results),
            **style_of("report.css", "judge.css"),
        )
    )


def _verdict(results: Mapping[str, Any], training: Training) -> dict[str, Any]:
    recipe = results["recipe"]
    adopted, opponent = training.adopted, training.opponent
    return {
        "title": recipe.get("name") or "judge",
        "reads": recipe.get("kind", "prompts"),
        "start": (recipe.get("start") or {}).get("source"),
        "sentences": judge_view.sentences(results),
        "figures": judge_view.figures(training),
        "adopted": adopted["round"] if adopted else 0,
        "opponent": opponent["round"] if opponent else None,
        "cell": judge_card.rate_cell,
    }


def _rounds(training: Training) -> dict[str, Any]:
    """Return the curves, and of each arm its rounds and all their numbers."""
    return {
        "played": training.played,
        "plots": _plots(training) if training.played else [],
        "arms": {name: judge_view.round_lines(rounds) for name, rounds in training.arms.items()},
        "slices": {name: judge_view.slice_tables(rounds) for name, rounds in training.arms.items()},
        "missed": [
            (found, [marked(text, limit=_EXAMPLE) for text in found.texts])
            for found in judge_view.missed(training.rounds)
        ],
    }


def _plots(training: Training) -> list[tuple[str, str, Markup]]:
    """Return by slice its title, its measure, and the curves of the arms over the rounds."""
    below = {float(each["round"]): "" for each in max(training.arms.values(), key=len)}
    below |= {0.0: "seeds"} | {float(each["round"]): "adopted" for each in (training.adopted,) if each}
    found = []
    for name in training.slices:
        title, measure = judge_view.slice_of(name).title, judge_view.main_measure(name)
        series = [svg.Series(arm, _points(rounds, name), _ARMS[arm]) for arm, rounds in training.arms.items()]
        said = measure.replace("_", " ").capitalize()
        drawing = svg.curves(series, below, ident=f"slice-{name}", title=f"{said} by round: {title}")
        found.append((title, said, drawing))
    return found


def _points(rounds: tuple[Record, ...], name: str) -> tuple[svg.Point, ...]:
    told = [(each["round"], judge_view.measured(each, name)) for each in rounds]
    return tuple(svg.Point(x, each.value, each.ci_low, each.ci_high, each.value) for x, each in told)


def _card(card: Mapping[str, Any]) -> dict[str, Any]:
    bins = card.get("calibration") or []
    return {
        "facts": judge_card.card_facts(card),
        "calibration": calibration_plot(bins) if bins else None,
        "whole": judge_card.group_line("all", card) if card.get("n") else None,
        "groups": judge_card.group_tables(card),
        "weaknesses": judge_warnings(card),
    }


def _origin(results: Mapping[str, Any]) -> dict[str, Any]:
    sources = (results.get("data") or {}).get("sources") or []
    recipe = results["recipe"]
    whole = json.dumps(recipe, indent=1, ensure_ascii=False, sort_keys=True, default=str)
    return {
        "description": recipe.get("description") or "",
        "command": results.get("command") or "",
        "sources": sources[:MAX_CATEGORIES],
        "sources_hidden": max(0, len(sources) - MAX_CATEGORIES),
        "provenance": _provenance(results),
        "recipe": marked(whole, limit=_RECIPE),
    }


def _provenance(results: Mapping[str, Any]) -> list[Fact]:
    """Return what the judge was made from, and against whom."""
    recipe, data = results["recipe"], results.get("data") or {}
    truth, adversary = recipe.get("truth") or {}, recipe.get("adversary") or {}
    against = (
        ", ".join(adversary.get("attacks") or [])
        or (adversary.get("model") or {}).get("endpoint")
        or (adversary.get("model") or {}).get("source")
    )
    found = [
        ("Starts from", (recipe.get("start") or {}).get("source"), ""),
        ("Seed", recipe.get("seed"), ""),
        ("Learnt in round 0", _counted(data.get("seeds")), "prompts"),
        ("Harmless prompts for the rounds", _counted(data.get("negatives")), ""),
        ("Learnt", _counted(data.get("learnt")), "labelled replies"),
        ("Held out", _counted(data.get("held_out")), "labelled replies"),
        ("Left out", _counted(data.get("left_out")), "stood in a held-out or excluded set"),
    ]
    if recipe.get("rounds"):
        found += [("Adversary", against, ""), ("Truth", truth.get("model") or truth.get("name"), "")]
    return [
        Fact(name, one_line(value, limit=200), note) for name, value, note in found if value not in (None, "")
    ]


def _counted(value: int | None) -> str:
    return "" if value is None else count(value)
