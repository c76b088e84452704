"""Compares systems of two runs that asked the same items of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toxoid.audit.capability import Costs
from toxoid.audit.rates import Settings
from toxoid.audit.results import CapabilityRow
from toxoid.audit.run import Scored
from toxoid.audit.scored_files import iter_scored
from toxoid.audit.slim import read_side_by_side
from toxoid.errors import UsageError
from toxoid.loop.capability import capability_rows, costs_path, read_costs
from toxoid.loop.kept import scored_path, speed
from toxoid.loop.results import compared, measured
from toxoid.store.fingerprint import fingerprint_difference
from toxoid.store.run_directory import RunDirectory

FLIPS = 20
"""Transcripts shown per task and direction."""
_MUST_AGREE = ("items", "judges", "toxoid")
_MUST_AGREE_IN_RECIPE = ("audit", "seed")


def compare_runs(
    before: str | Path,
    after: str | Path,
    *,
    before_system: str = "base",
    after_system: str | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Return the paired comparison of two systems, in the layout of ``results.json``.

    Args:
        before: Directory of the first run.
        after: Directory of the second run; may be the same.
        before_system: System of the first run.
        after_system: System of the second run; by default its last.
        force: Compare although the runs differ in their items, judges or sampling; the result is marked.

    Raises:
        UsageError: No such run or system, or the runs differ in what a comparison rests on.
    """
    runs = RunDirectory.read(before), RunDirectory.read(after)
    results = runs[0].results(), runs[1].results()
    names = _system(results[0], before_system, before), _system(results[1], after_system, after)
    grounds = [_ground(run, result) for run, result in zip(runs, results, strict=True)]
    found = fingerprint_difference(grounds[0], grounds[1])
    differences = sorted(found, key=lambda line: line.startswith("items"))  # which follow from the others
    if differences and not force:
        raise UsageError(
            f"{before} and {after} are not comparable: they differ in {'; '.join(differences[:4])}. "
            "Audit both with one recipe, or add --force to compare all the same."
        )
    sides = [
        _Side(_label(path, name, result), run, _named(result, name))
        for path, name, run, result in zip((before, after), names, runs, results, strict=True)
    ]
    return _results((sides[0], sides[1]), results[0], differences)


@dataclass(frozen=True, slots=True)
class _Side:
    """One system of a comparison: what it is called there, its run, and what that run's results say of it."""

    label: str
    run: RunDirectory
    system: Mapping[str, Any]

    def scored(self) -> Iterator[Scored]:
        """Yield its scored items."""
        return iter_scored(scored_path(self.run, self.system["name"]))

    def tasks(self) -> list[str]:
        """Return the tasks that it was asked."""
        return list(dict.fromkeys(row["task"] for row in self.system["rates"]))

    def costs(self) -> Costs | None:
        """Return what held-out texts cost it, where that was measured."""
        path = costs_path(self.run, self.system["name"])
        return read_costs(path) if path.is_file() else None


def _results(sides: tuple[_Side, _Side], like: dict[str, Any], differences: list[str]) -> dict[str, Any]:
    settings = _settings(sides[0].run)
    old, new = _shared(sides) if differences else (side.scored() for side in sides)
    tasks = [task for task in sides[0].tasks() if task in sides[1].tasks()]
    before, after, changed = read_side_by_side(old, new, tasks=tasks, most=FLIPS)
    labels = sides[0].label, sides[1].label
    found = compared(before, after, changed, settings, names=labels, tasks=tasks)
    comparison = {**found, "headline": True, "capability": _capability(sides, settings)}
    return {
        "meta": {
            **like["meta"],
            "name": "comparison",
            "systems": list(labels),
            "warnings": [f"forced: the runs differ in {line}" for line in differences],
            "forced": differences,
        },
        "rows": found["rows"],
        "systems": [
            {
                "name": side.label,
                "label": side.label,
                "description": side.system["label"],
                "cost": speed(side.run, side.system["name"]),
                **measured(scored, like["judge_card"], settings),
                "capability": side.system.get("capability", []),
            }
            for side, scored in zip(sides, (before, after), strict=True)
        ],
        "comparisons": [comparison],
        "power": like["power"],
        "judge_card": like["judge_card"],
        "notes": like["notes"],
    }


def _shared(sides: tuple[_Side, _Side]) -> list[list[Scored]]:
    """Return the items that both systems were asked, in one order: of other items nothing can be compared.

    Raises:
        UsageError: There are none.
    """
    found = [{(entry.item.key, entry.item.attack): entry for entry in side.scored()} for side in sides]
    keys = [key for key in found[0] if key in found[1]]
    if not keys:
        raise UsageError(
            f"{sides[0].label} and {sides[1].label} were asked no item alike: audit both with one recipe"
        )
    return [[entries[key] for key in keys] for entries in found]


def _capability(sides: tuple[_Side, _Side], settings: Settings) -> list[CapabilityRow]:
    """Return the differences in capability; in that of texts, if both runs had the same ones."""
    texts = [side.run.fingerprint["data"].get("capability") for side in sides]
    costs = [side.costs() if texts[0] == texts[1] else None for side in sides]
    scores = [side.system.get("capability", []) for side in sides]
    return capability_rows((costs[0], costs[1]), (scores[0], scores[1]), settings)


def _settings(run: RunDirectory) -> Settings:
    """Return the statistics that a run's recipe asks for."""
    return Settings(**run.fingerprint["recipe"].get("statistics", {}))


def _system(results: dict[str, Any], name: str | None, path: str | Path) -> str:
    known: list[str] = results["meta"]["systems"]
    if name is None:
        return known[-1]
    if name not in known:
        raise UsageError(f'{path} has no system "{name}"; it has {", ".join(known)}')
    return name


def _label(path: str | Path, name: str, results: Mapping[str, Any]) -> str:
    """Return what a compared system is called: its run, and its name there where the run has several."""
    return str(path) if len(results["meta"]["systems"]) == 1 else f"{path}:{name}"


def _named(results: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(system for system in results["systems"] if system["name"] == name)
    return found


def _ground(run: RunDirectory, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two compared runs must share: of their fingerprints, and what was transferred to their systems."""
    whole = run.fingerprint
    recipe = {key: whole["recipe"].get(key) for key in _MUST_AGREE_IN_RECIPE}
    audit = dict(recipe["audit"])
    audit["campaigns"] = {**audit.get("campaigns", {}), "found_in": None}  # what was found there counts
    transferred = results["meta"].get("transferred")
    return {
        **{key: whole.get(key) for key in _MUST_AGREE},
        "recipe": recipe | {"audit": audit},
        "transferred": transferred,
    }
