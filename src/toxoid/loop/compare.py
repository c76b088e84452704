"""Compares systems of two runs that asked the same items of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toxoid.audit.course_correction import curves, mean_rows
from toxoid.audit.rates import Settings, comparison_rows, flips, rate_rows
from toxoid.audit.run import Scored
from toxoid.audit.scored_files import read_scored
from toxoid.audit.verdict import verdict
from toxoid.errors import UsageError
from toxoid.loop.results import shown_flips
from toxoid.loop.run import scored_path
from toxoid.store.fingerprint import fingerprint_difference
from toxoid.store.run_directory import RunDirectory

FLIPS = 20
"""Transcripts shown per task and direction."""
_MUST_AGREE = ("items", "judges", "toxoid")
_MUST_AGREE_IN_RECIPE = ("audit", "seed")


def compare_runs(
    before: Path,
    after: Path,
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
    differences = fingerprint_difference(_ground(runs[0]), _ground(runs[1]))
    if differences and not force:
        raise UsageError(
            f"{before} and {after} are not comparable: they differ in {'; '.join(differences[:4])}. "
            "Audit both with one recipe, or add --force to compare all the same."
        )
    scored = read_scored(scored_path(runs[0], names[0])), read_scored(scored_path(runs[1], names[1]))
    return _results(scored, (f"{before}:{names[0]}", f"{after}:{names[1]}"), results[0], differences)


def _results(
    scored: tuple[list[Scored], list[Scored]],
    labels: tuple[str, str],
    like: dict[str, Any],
    differences: list[str],
) -> dict[str, Any]:
    settings = Settings()
    rows = comparison_rows(*scored, settings, names=labels)
    changed = flips(*scored)
    warnings = [f"forced: the runs differ in {line}" for line in differences]
    comparison = {
        "before": labels[0],
        "after": labels[1],
        "headline": True,
        "rows": rows,
        "means": mean_rows(*scored, settings),
        "flips": shown_flips(changed, FLIPS),
        "flips_total": {
            way: sum(flip["direction"] == way for flip in changed) for way in ("better", "worse")
        },
        "verdict": verdict(rows, level=settings.level),
    }
    return {
        "meta": {**like["meta"], "name": "comparison", "systems": list(labels), "warnings": warnings},
        "rows": rows,
        "systems": [
            {
                "name": label,
                "label": label,
                "description": "",
                "cost": {},
                "rates": rate_rows(entries, settings),
                "curves": curves(entries, settings),
            }
            for label, entries in zip(labels, scored, strict=True)
        ],
        "comparisons": [comparison],
        "power": like["power"],
        "judge_card": like["judge_card"],
        "notes": like["notes"],
    }


def _system(results: dict[str, Any], name: str | None, path: Path) -> str:
    known: list[str] = results["meta"]["systems"]
    if name is None:
        return known[-1]
    if name not in known:
        raise UsageError(f'{path} has no system "{name}"; it has {", ".join(known)}')
    return name


def _ground(run: RunDirectory) -> dict[str, Any]:
    """Return the part of a fingerprint that two compared runs must share."""
    whole = run.fingerprint
    recipe = {key: whole["recipe"].get(key) for key in _MUST_AGREE_IN_RECIPE}
    return {key: whole.get(key) for key in _MUST_AGREE} | {"recipe": recipe}
