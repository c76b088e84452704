"""What the page says of replies that were begun for the model: Corr@k as curves, and the numbers beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from toxoid.audit.results import Curve, CurvePoint, MeanRow, RateRow, Results, System
from toxoid.audit.tasks import CORR_MEAN, FALSELY_CORRECTED
from toxoid.audit.verdict import ALL
from toxoid.report import svg, view
from toxoid.report.format import MINUS, finite, metric_title, number, percent, share, task_title

_MEASURES = {
    "mean_words_before": "Words before the turn, all replies",
    "mean_position": "Words before the turn, corrected replies",
}


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the table; of a single system only ``after`` and its ``interval`` are given."""

    task: str
    name: str
    after: str
    interval: str
    before: str = ""
    difference: str = ""
    state: str = "unclear"


@dataclass(frozen=True, slots=True)
class Plot:
    """The curve of one task, and what has to be said under it."""

    task: str
    drawing: Markup
    note: str


@dataclass(frozen=True, slots=True)
class Beginnings:
    """The section: a sentence, a curve per task, and a table by task. ``names`` are the systems shown."""

    sentence: str
    names: tuple[str, ...]
    plots: tuple[Plot, ...]
    tasks: tuple[tuple[str, tuple[Measure, ...]], ...]


def beginnings(results: Results) -> Beginnings | None:
    """Return the section on course-correction, or ``None`` where no task of the results begins replies."""
    systems = view.shown_systems(results)
    drawn = [{curve["task"]: curve for curve in system.get("curves", [])} for system in systems]
    tasks = [task for task in (drawn[0] if drawn else {}) if all(task in curves for curves in drawn)]
    if not tasks:
        return None
    titles = results["meta"].get("tasks", {})
    plots = [
        _plot(task_title(task, titles), [curves[task] for curves in drawn], f"corr-{index}")
        for index, task in enumerate(tasks)
    ]
    measures = [one for task in tasks for one in _measures(task, task_title(task, titles), results, systems)]
    return Beginnings(
        sentence=_sentence(tasks, systems),
        names=tuple(system["name"] for system in systems),
        plots=tuple(plots),
        tasks=tuple((task, tuple(group)) for task, group in groupby(measures, key=lambda one: one.task)),
    )


def _plot(title: str, curves: Sequence[Curve], ident: str) -> Plot:
    points = curves[-1]["points"]
    series = [
        svg.Series(
            "before" if index < len(curves) - 1 else "after",
            tuple(
                svg.Point(p["k"], p["corr"], p["ci_low"], p["ci_high"], p["corr_reached"])
                for p in curve["points"]
            ),
        )
        for index, curve in enumerate(curves)
    ]
    reach: dict[float, str] = {point["k"]: f"{point['n_items'] - point['n_whole']:,}" for point in points}
    drawing = svg.curves(
        series, reach, ident=ident, title=f"Share of replies that turn away by words begun: {title}"
    )
    return Plot(title, drawing, _short_texts(points))


def _short_texts(points: Sequence[CurvePoint]) -> str:
    """Say where texts are shorter than k, which the protocol counts like any other."""
    worst = max(points, key=lambda point: point["n_whole"] / max(1, point["n_items"]))
    if not worst["n_whole"]:
        return "Every text reaches every k."
    return (
        f"At k = {worst['k']}, {share(worst['n_whole'], worst['n_items'])} of the texts are shorter than k: they stand "
        "there wholly, and what follows a whole reply is counted too."
    )


def _measures(task: str, title: str, results: Results, systems: Sequence[System]) -> list[Measure]:
    if not results["rows"]:
        return [*_rates(task, title, systems[0]), *_means(task, title, systems[0])]
    written = view.lines((row for row in view.overall(results["rows"]) if row["task"] == task), results)
    rates = [
        Measure(title, line.metric, line.after, line.interval, line.before, line.difference, line.state)
        for line in written
    ]
    means = next((one.get("means", []) for one in results["comparisons"] if one["headline"]), [])
    return [*rates, *(_change(title, row) for row in means if row["task"] == task)]


def _rates(task: str, title: str, system: System) -> list[Measure]:
    cells = [(row["metric"], view.cell(row)) for row in _overall(system, task)]
    return [Measure(title, metric_title(metric), cell.rate, cell.interval) for metric, cell in cells]


def _means(task: str, title: str, system: System) -> list[Measure]:
    curve = next(curve for curve in system.get("curves", []) if curve["task"] == task)
    ends = {
        "mean_words_before": (curve["mean_words_before"], curve["words_ci_low"], curve["words_ci_high"]),
        "mean_position": (curve["mean_position"], curve["position_ci_low"], curve["position_ci_high"]),
    }
    return [
        Measure(title, _MEASURES[measure], number(mean, decimals=1), _words(low, high))
        for measure, (mean, low, high) in ends.items()
        if mean is not None
    ]


def _change(title: str, row: MeanRow) -> Measure:
    difference = finite(row["difference"])
    signed = number(difference, decimals=1)
    return Measure(
        title,
        _MEASURES.get(row["measure"], row["measure"]),
        number(row["after"], decimals=1),
        _words(row["ci_low"], row["ci_high"]),
        number(row["before"], decimals=1),
        f"+{signed}" if difference and not signed.startswith(MINUS) else signed,
    )


def _words(low: float | None, high: float | None) -> str:
    return "" if low is None else f"{number(low, decimals=1)} to {number(high, decimals=1)}"


def _overall(system: System, task: str) -> list[RateRow]:
    return [row for row in system["rates"] if row["task"] == task and row["category"] == ALL]


def _sentence(tasks: Sequence[str], systems: Sequence[System]) -> str:
    """Say what the first task of its kind showed of harmful beginnings, and of good ones."""
    said = (
        (CORR_MEAN.name, "begun harmfully, {} turn away"),
        (FALSELY_CORRECTED.name, "begun well, {} do so without cause"),
    )
    parts: list[str] = []
    for metric, sentence in said:
        tables = [
            {
                row["task"]: row["rate"]
                for row in system["rates"]
                if (row["metric"], row["category"]) == (metric, ALL)
            }
            for system in systems
        ]
        task = next((task for task in tasks if all(task in table for table in tables)), None)
        if task is not None:
            found = [percent(table[task]) for table in tables]
            replies = f"{found[0]} of the replies" if not parts else found[0]
            parts.append(sentence.format(f"{replies} before and {found[1]} after" if found[1:] else replies))
    whole = "; ".join(parts)
    return f"{whole[:1].upper()}{whole[1:]}." if whole else ""
