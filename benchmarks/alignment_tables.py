"""The tables of :mod:`benchmarks.alignment_comparison`: from finished runs to means, intervals and claims.

A difference is claimed if both its intervals leave out zero, over seeds (t) and over goals (bootstrap, seeds pooled),
and the test over goals finds it: sign flips of the goals' mean differences, Holm-adjusted over the table's systems.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from scipy.stats import t as student

from toxoid.audit.rates import ALL, clusters
from toxoid.audit.run import Scored
from toxoid.audit.scored_files import read_scored
from toxoid.audit.tasks import Metric, task_spec
from toxoid.stats.intervals import item_means
from toxoid.stats.multiplicity import holm
from toxoid.stats.paired import PairedResult, paired_difference
from toxoid.stats.power import minimum_detectable_effect

LEVEL = 0.95
Goals: TypeAlias = Mapping[str, list[float | None]]
"""By goal, the values of all its replies."""


class Measure(NamedTuple):
    """A column: a metric of a task, and its name in the JSON line."""

    title: str
    task: str
    metric: str
    key: str

    @property
    def spec(self) -> Metric:
        """The metric."""
        return next(metric for metric in task_spec(self.task).metrics if metric.name == self.metric)


NOVEL = Measure("novel, analysed only", "novel-harm", "harmless_rate", "novel_harmless_rate")


@dataclass(frozen=True)
class Study:
    """A recipe, the system that its others are compared with, and what is shown of it.

    Args:
        name: Of its folders and tables.
        title: Of its table.
        recipe: The packaged recipe.
        measures: The columns.
        prefix: Of its names in the JSON line.
        reference: The system to compare with.
        aligned: Whether it starts from a model aligned by SFT before, in place of the recipe's.
    """

    name: str
    title: str
    recipe: str
    measures: tuple[Measure, ...]
    prefix: str
    reference: str = "sft"
    aligned: bool = False

    def directory(self, seed: int, out: Path) -> Path:
        """Return where one seed is run."""
        return out / f"{self.name}-{seed}"


# ---- numbers ----


@dataclass(frozen=True)
class Cell:
    """One measure of one system: per seed, and against the reference.

    Args:
        values: Rate by seed.
        mean: Of the seeds.
        difference: Mean over seeds of the difference to the reference; ``None`` for the reference itself.
        seeds_interval: t interval of that difference over seeds; ``None`` with one seed.
        goals_interval: Its bootstrap interval over goals, seeds pooled.
        p_adjusted: Of the sign-flip test over goals, Holm-adjusted over the systems of the table.
    """

    values: tuple[float, ...]
    mean: float
    difference: float | None = None
    seeds_interval: tuple[float, float] | None = None
    goals_interval: tuple[float, float] | None = None
    p_adjusted: float | None = None

    @property
    def claim(self) -> str:
        """What may be said: higher, lower, or nothing."""
        if self.difference is None or self.p_adjusted is None or self.seeds_interval is None:
            return ""
        ends = self.seeds_interval, self.goals_interval or (0.0, 0.0)
        if self.p_adjusted >= 1 - LEVEL or any(low <= 0 <= high for low, high in ends):
            return ""
        return "higher" if self.difference > 0 else "lower"


@dataclass(frozen=True)
class Table:
    """The cells of a study by system and measure, and the mean cost of each system's treatment."""

    study: Study
    labels: Mapping[str, str]
    cells: Mapping[tuple[str, Measure], Cell]
    costs: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, Mapping[str, int]]


def table_of(study: Study, seeds: Sequence[int], out: Path) -> Table:
    """Return the numbers of a study from its finished runs."""
    runs = [study.directory(seed, out) for seed in seeds]
    results = [json.loads((run / "results.json").read_text("utf-8")) for run in runs]
    timings = [json.loads((run / "timings.json").read_text("utf-8")) for run in runs]
    labels = {system["name"]: system["label"] for system in results[0]["systems"]}
    labels["base"] = "Aligned model" if study.aligned else labels["base"]
    cells: dict[tuple[str, Measure], Cell] = {}
    for measure in study.measures:
        cells |= {(name, measure): cell for name, cell in _column(study, measure, list(labels), runs).items()}
    costs = {name: _cost(name, results, timings) for name in labels}
    return Table(study, labels, cells, costs, {name: _counts(name, results) for name in labels})


def _column(study: Study, measure: Measure, systems: Sequence[str], runs: Sequence[Path]) -> dict[str, Cell]:
    """Return a measure's cell of every system that was tested on it."""
    found = {name: [_goals(run, name, measure) for run in runs] for name in systems}
    found = {name: goals for name, goals in found.items() if all(goals)}
    pooled = {name: _pooled(goals) for name, goals in found.items()}
    rates = {name: tuple(_rate(goals) for goals in by_seed) for name, by_seed in found.items()}
    reference = study.reference
    others = [name for name in found if name != reference] if reference in found else []
    paired = {name: _paired(pooled[reference], pooled[name]) for name in others}
    adjusted = dict(zip(others, holm([paired[name].p_value or 1.0 for name in others]), strict=True))
    cells = {}
    for name, values in rates.items():
        cells[name] = Cell(values, statistics.fmean(values))
        if name in paired:
            steps = [after - before for before, after in zip(rates[reference], values, strict=True)]
            ends = paired[name].ci_low, paired[name].ci_high
            cells[name] = Cell(
                values,
                statistics.fmean(values),
                statistics.fmean(steps),
                t_interval(steps),
                (ends[0] or 0.0, ends[1] or 0.0),
                adjusted[name],
            )
    return cells


@cache
def _scored(path: Path) -> list[Scored]:
    return read_scored(path)


def _goals(run: Path, system: str, measure: Measure) -> Goals:
    """Return a system's values by goal: the wordings of one goal hang together as the replies to one request do."""
    by_request = clusters(
        _scored(run / "artifacts" / "scored" / f"{system}.jsonl"), measure.task, measure.spec
    )
    found: dict[str, list[float | None]] = defaultdict(list)
    for request, values in by_request.get(ALL, {}).items():
        found[request.rsplit("/", 1)[0]] += values
    return found


def _pooled(by_seed: Sequence[Goals]) -> Goals:
    return {goal: [value for goals in by_seed for value in goals[goal]] for goal in by_seed[0]}


def _rate(goals: Goals) -> float:
    return statistics.fmean(item_means(list(goals.values())))


def _paired(before: Goals, after: Goals) -> PairedResult:
    return paired_difference(list(before.values()), [after[goal] for goal in before], level=LEVEL)


def t_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Return the interval of the mean of independent values, by Student's t; ``None`` for fewer than two values."""
    if len(values) < 2:
        return None
    middle = statistics.fmean(values)
    half = student.ppf((1 + level) / 2, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return middle - half, middle + half


def _cost(name: str, results: Sequence[Any], timings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean steps, training tokens and seconds of a treatment, its data included."""
    costs = [_system(found, name)["cost"] for found in results]
    return {
        "steps": statistics.fmean(cost["train_steps"] for cost in costs),
        "tokens": statistics.fmean(cost["train_tokens"] for cost in costs),
        "seconds": statistics.fmean(timing.get(f"treat {name}", 0.0) for timing in timings),
    }


def _counts(name: str, results: Sequence[Any]) -> dict[str, int]:
    totals: dict[str, int] = defaultdict(int)
    for found in results:
        for key, count in _system(found, name)["cost"]["counts"].items():
            totals[key] += count
    return dict(totals)


def _system(found: Any, name: str) -> Any:
    return next(system for system in found["systems"] if system["name"] == name)


def by_verb(seeds: Sequence[int], out: Path, study: Study) -> dict[str, tuple[float, float]]:
    """Return, by verb of the novel harms, the mean rates of the reference and of mistake analysis.

    What a policy says it says of a verb: its goals succeed or fail together, so verbs are the units here.
    """
    runs = [study.directory(seed, out) for seed in seeds]
    sides = []
    for system in (study.reference, "mistake-analysis"):
        verbs: dict[str, list[float | None]] = defaultdict(list)
        for goal, values in _pooled([_goals(run, system, NOVEL) for run in runs]).items():
            verbs[goal.rsplit("/", 1)[1].split("-")[0]] += values
        sides.append({verb: _rate({verb: values}) for verb, values in verbs.items()})
    return {verb: (sides[0][verb], sides[1][verb]) for verb in sides[0]}


# ---- pages ----


def page(tables: Sequence[Table], seeds: Sequence[int], out: Path) -> str:
    """Return all tables as Markdown."""
    parts = [
        "# Mistake analysis: tables",
        f"Made by `python -m benchmarks.alignment_comparison`, seeds {', '.join(map(str, seeds))}. Rates in per cent, "
        "mean over seeds. Bold: the difference to the reference (the row marked so) may be claimed, that is, its "
        f"{LEVEL:.0%} t interval over seeds and its bootstrap interval over goals leave out zero, and the "
        f"Holm-adjusted sign-flip test over goals has p < {1 - LEVEL:.2f}.",
    ]
    for table in tables:
        parts += [f"## {table.study.title}", summary(table)]
        if table.study.name == "policy-extension":
            parts.append(_verbs(by_verb(seeds, out, table.study)))
        if table.study.name == "mistake-sources":
            parts.append(_induction(table))
    parts += ["## Detectable differences", _power()]
    parts += ["## Every number"]
    for table in tables:
        parts += [f"### {table.study.title}", details(table, seeds)]
    return "\n\n".join(parts) + "\n"


def summary(table: Table) -> str:
    """Return a row per system with its means and costs."""
    study = table.study
    heads = ["system", *(measure.title for measure in study.measures), "steps", "tokens", "seconds"]
    rows = []
    for name, label in table.labels.items():
        cells = [table.cells.get((name, measure)) for measure in study.measures]
        cost = table.costs[name]
        rows.append(
            [
                f"{label} (reference)" if name == study.reference else label,
                *(_short(cell) for cell in cells),
                f"{cost['steps']:.0f}",
                f"{cost['tokens']:,.0f}",
                f"{cost['seconds']:.0f}",
            ]
        )
    return _markdown(heads, rows)


def _short(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    text = f"{100 * cell.mean:.1f}"
    return f"**{text}**" if cell.claim else text


def details(table: Table, seeds: Sequence[int]) -> str:
    """Return a row per measure and system: seeds, difference, both intervals, p and what may be claimed."""
    heads = [
        "measure",
        "system",
        " / ".join(f"seed {seed}" for seed in seeds),
        "mean",
        "difference",
        "over seeds",
        "over goals",
        "p (Holm)",
        "claim",
    ]
    rows = [
        [measure.title, table.labels[name], *_long(cell)]
        for measure in table.study.measures
        for (name, of), cell in table.cells.items()
        if of == measure
    ]
    return _markdown(heads, rows)


def _long(cell: Cell) -> list[str]:
    values = " / ".join(f"{100 * value:.1f}" for value in cell.values)
    if cell.difference is None:
        return [values, f"{100 * cell.mean:.1f}", *["–"] * 4, ""]
    return [
        values,
        f"{100 * cell.mean:.1f}",
        f"{100 * cell.difference:+.1f}",
        _interval(cell.seeds_interval),
        _interval(cell.goals_interval),
        "< 0.0001" if (cell.p_adjusted or 0.0) < 0.0001 else f"{cell.p_adjusted:.4f}",
        cell.claim,
    ]


def _interval(ends: tuple[float, float] | None) -> str:
    return "–" if ends is None else f"{100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}"


def _verbs(rates: Mapping[str, tuple[float, float]]) -> str:
    steps = [after - before for before, after in rates.values()]
    rows = [
        [verb, f"{100 * before:.1f}", f"{100 * after:.1f}", f"{100 * (after - before):+.1f}"]
        for verb, (before, after) in rates.items()
    ]
    return (
        "Novel harms verb by verb, all seeds. Goals of one verb hang together; taken verb by verb the difference is "
        f"{100 * statistics.fmean(steps):+.1f} points ({LEVEL:.0%} t interval over {len(steps)} verbs: "
        f"{_interval(t_interval(steps))}).\n\n"
        + _markdown(["verb", "SFT", "mistake analysis", "difference"], rows)
    )


def _induction(table: Table) -> str:
    rows = [
        [table.labels[name], family, f"{tried:,}", f"{bad:,}", f"{100 * bad / tried:.1f}"]
        for name, counts in table.counts.items()
        for family, tried, bad in _tries(counts)
    ]
    heads = ["system", "asked", "replies", "bad", "per cent"]
    return "How often the model made a mistake when asked for one, all seeds.\n\n" + _markdown(heads, rows)


def _tries(counts: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    for key, tried in counts.items():
        if key.endswith("_tried"):
            stem = key.removesuffix("_tried")
            yield stem.removeprefix("induced_"), tried, counts.get(f"{stem}_harmful", 0)


def _power() -> str:
    rows = [
        [str(n), f"{rate:.0%}", *(f"{100 * effect:.1f}" for effect in _effects(n, rate))]
        for n in (136, 420)
        for rate in (0.5, 0.68, 0.77)
    ]
    heads = ["items", "rate before", "one reply each", "two replies each"]
    return "Smallest change, in points, that a paired test finds with 80 % probability.\n\n" + _markdown(
        heads, rows
    )


def _effects(items: int, rate: float) -> Iterator[float]:
    for replies in (1, 2):
        yield minimum_detectable_effect(items, replies, rate, intra_cluster_correlation=0.3)


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def document(tables: Sequence[Table], seeds: Sequence[int]) -> dict[str, Any]:
    """Return all numbers as JSON."""
    return {
        "seeds": list(seeds),
        "level": LEVEL,
        "studies": {
            table.study.name: {
                "reference": table.study.reference,
                "systems": {
                    name: {
                        "label": label,
                        "cost": dict(table.costs[name]),
                        "counts": dict(table.counts[name]),
                        "measures": {
                            measure.key: _rounded(asdict(cell)) | {"claim": cell.claim}
                            for measure in table.study.measures
                            if (cell := table.cells.get((name, measure)))
                        },
                    }
                    for name, label in table.labels.items()
                },
            }
            for table in tables
        },
    }


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return numbers, and those in sequences, to five places: more would be noise."""
    return {
        key: [round(each, 5) for each in value] if isinstance(value, tuple) else value and round(value, 5)
        for key, value in values.items()
    }


def headline(tables: Sequence[Table]) -> dict[str, float]:
    """Return the means by flat names, such as ``mistake_analysis.harmless_rate``."""
    return {
        f"{table.study.prefix}{name.replace('-', '_')}.{measure.key}": round(cell.mean, 4)
        for table in tables
        for (name, measure), cell in table.cells.items()
    }
