"""Assembles ``results.json``: a function of the scored systems only, without any wall-clock time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from toxoid.audit.by_attack import attack_comparison_rows, attack_rate_rows, success_rows
from toxoid.audit.course_correction import curves, mean_rows
from toxoid.audit.items import Item, items_fingerprint
from toxoid.audit.judge_error import why_not, with_corrections
from toxoid.audit.rates import ALL, Settings, answered, comparison_rows, rate_rows, tasks_of
from toxoid.audit.results import Comparison, Decoding, Meta, Power, RateRow, Results, Row, System, TaskInfo
from toxoid.audit.run import Scored
from toxoid.audit.scored_files import iter_scored
from toxoid.audit.slim import ShownFlips, shown_flips
from toxoid.audit.tasks import CORR_MEAN, task_spec
from toxoid.audit.trade import trade
from toxoid.audit.verdict import verdict
from toxoid.config.recipe import BASE, ContrastSection, ModelSection, Recipe
from toxoid.judges.card import packaged_card
from toxoid.judges.correction import NAME as CORRECTIONS
from toxoid.judges.panel import Panel, panel_identity
from toxoid.loop.capability import Capability
from toxoid.loop.judging import panel_name
from toxoid.loop.requests import drawings
from toxoid.loop.treat import Treated
from toxoid.stats.power import minimum_detectable_effect

EXPECTED_RATE = 0.5
"""A rate before it is measured. Nothing is known of the model then; at a half, where a rate varies most, the
smallest change that would be seen is told rather too large than too small."""
EXPECTED_CORRELATION = 0.3
"""Of two replies to one request: a guess. With two replies per request, the default, nothing depends on it; with
more, a model whose replies to one request are more alike than this shows less."""


@dataclass(frozen=True, slots=True)
class Audited:
    """One system after its audit.

    Args:
        scored: Its items without texts, as :class:`toxoid.audit.slim.Slimmer` keeps them.
        path: The file of the whole items.
        reply_tokens: Of all its replies.
        identity: Of its engine.
    """

    scored: Sequence[Scored]
    path: Path
    reply_tokens: int
    identity: Mapping[str, Any]


def assemble(
    recipe: Recipe,
    audited: Mapping[str, Audited],
    treated: Mapping[str, Treated],
    panel: Panel,
    capability: Capability,
    *,
    transferred: Sequence[Item],
    fingerprint: Mapping[str, Any],
    notes: Sequence[str],
) -> Results:
    """Return the results of a run.

    Args:
        recipe: The recipe that was run.
        audited: By system, ``"base"`` first.
        treated: By arm, what its treatment left.
        panel: The judges.
        capability: What was measured beside replies.
        transferred: What attacks ended with on the base, if it was asked again.
        fingerprint: Of the run.
        notes: About the data.
    """
    settings = Settings(recipe.statistics.level, recipe.statistics.resamples, recipe.statistics.seed)
    comparisons = [
        _comparison(contrast, audited, settings, recipe, capability) for contrast in _contrasts(recipe)
    ]
    headline = next((found for found in comparisons if found["headline"]), None)
    card = packaged_card(panel_name(recipe), panel)
    transfer: Meta = {"transferred": items_fingerprint(transferred)} if transferred else {}
    systems = [
        _system(name, found, recipe, treated.get(name))
        | measured(found.scored, card, settings)
        | _optional("capability", capability.scores(name))
        for name, found in audited.items()
    ]
    return {
        "meta": _meta(recipe, panel, fingerprint, audited, card) | transfer,
        "rows": headline["rows"] if headline else [],
        "systems": cast("list[System]", systems),
        "comparisons": comparisons,
        "power": power_rows([entry.item for entry in audited[BASE].scored], recipe),
        "judge_card": card,
        "notes": list(dict.fromkeys([*notes, *capability.notes])),
    }


def measured(scored: Sequence[Scored], card: Mapping[str, Any] | None, settings: Settings) -> dict[str, Any]:
    """Return what one system's scored items say: the keys ``rates``, ``curves`` and ``success`` of a system."""
    rates: list[RateRow] = []
    by_attack: list[RateRow] = []
    found: dict[str, Any] = {"rates": rates, "curves": [], "success": []}
    for entries in _by_task(scored).values():
        rates += with_corrections(rate_rows(entries, settings), entries, card, settings)
        by_attack += attack_rate_rows(entries, settings)
        found["curves"] += curves(entries, settings)
        found["success"] += success_rows(entries, settings)
    rates += by_attack
    return found


def compared(
    before: Sequence[Scored],
    after: Sequence[Scored],
    flips: ShownFlips,
    settings: Settings,
    *,
    names: tuple[str, str],
    tasks: Sequence[str],
) -> dict[str, Any]:
    """Return what two systems' scored items say together: a comparison without ``headline`` and ``capability``.

    Args:
        before: One system's items; no text of them is needed.
        after: The other's.
        flips: The replies whose verdict changed between them.
        settings: Of intervals and tests.
        names: Of the systems.
        tasks: What both were asked and is compared.
    """
    sides = _by_task(before), _by_task(after)
    shared = [task for task in sides[0] if task in sides[1] and task in tasks]
    rows: list[Row] = []
    by_attack: list[Row] = []
    for task in shared:
        old, new = sides[0][task], sides[1][task]
        rows += comparison_rows(old, new, settings, names=names)
        by_attack += attack_comparison_rows(old, new, settings, names=names)
    rows.sort(key=lambda row: row["category"] != ALL)
    weighed = trade(sides[0], sides[1], rows, settings)
    return {
        "before": names[0],
        "after": names[1],
        "rows": [*rows, *by_attack],
        "means": [row for task in shared for row in mean_rows(sides[0][task], sides[1][task], settings)],
        **_optional("trade", weighed),
        "verdict": verdict(rows, level=settings.level),
        "flips": flips.shown(),
        "flips_total": flips.totals,
    }


def _by_task(scored: Iterable[Scored]) -> dict[str, list[Scored]]:
    """Return the entries by task, in the order of the tasks' first items: no entry is looked at for other tasks."""
    found: dict[str, list[Scored]] = {}
    for entry in scored:
        found.setdefault(entry.item.task, []).append(entry)
    return found


def _optional(key: str, value: Any) -> dict[str, Any]:
    return {key: value} if value else {}


def _contrasts(recipe: Recipe) -> list[ContrastSection]:
    """Return the comparisons to make: each arm with the base (the first is the headline), then the recipe's own."""
    arms = [ContrastSection(before=BASE, after=arm.name, tasks=arm.tasks) for arm in recipe.arms]
    return [*arms, *recipe.contrasts]


def _comparison(
    contrast: ContrastSection,
    audited: Mapping[str, Audited],
    settings: Settings,
    recipe: Recipe,
    capability: Capability,
) -> Comparison:
    names = contrast.before, contrast.after
    before, after = (audited[name] for name in names)
    known = frozenset(tasks_of(after.scored)) & frozenset(contrast.tasks or recipe.audit.tasks)
    tasks = [task for task in tasks_of(before.scored) if task in known]
    flips = shown_flips(
        iter_scored(before.path), iter_scored(after.path), tasks=tasks, most=recipe.report.flips
    )
    found = compared(before.scored, after.scored, flips, settings, names=names, tasks=tasks)
    headline = {"headline": bool(recipe.arms) and names == (BASE, recipe.arms[0].name)}
    return cast("Comparison", {**found, **headline, **_optional("capability", capability.rows(*names))})


def _system(
    name: str,
    audited: Audited,
    recipe: Recipe,
    treated: Treated | None,
) -> dict[str, Any]:
    arm = next((arm for arm in recipe.arms if arm.name == name), None)
    system: dict[str, Any] = {
        "name": name,
        "label": (arm.label or arm.name) if arm else _base_label(recipe.model),
        "description": arm.method if arm else _base_kind(recipe.model),
        "cost": {
            "train_steps": treated.steps if treated else 0,
            "train_tokens": treated.tokens if treated else 0,
            "generated_tokens": audited.reply_tokens,
            "examples": dict(treated.examples) if treated else {},
            "counts": dict(treated.counts) if treated else {},
        },
    }
    if decoding := audited.identity.get("decoding"):
        own = {
            key: decoding[key]
            for key in ("positive", "negative", "shield")
            if key != "shield" or decoding[key]
        }
        system["decoding"] = cast(Decoding, own | decoding["contrast"])
    return system


def _base_kind(model: ModelSection) -> str:
    return "shielded" if model.shield else "adapted" if model.adapter else "untreated"


def _base_label(model: ModelSection) -> str:
    """Return what the base is called: its source, and what stands on it or before it."""
    return " + ".join(part for part in (model.source, model.adapter, model.shield) if part)


def _meta(
    recipe: Recipe,
    panel: Panel,
    fingerprint: Mapping[str, Any],
    audited: Mapping[str, Audited],
    card: Mapping[str, Any] | None,
) -> Meta:
    from toxoid import __version__

    tasks: dict[str, TaskInfo] = {
        name: {
            "title": task_spec(name).title,
            "description": task_spec(name).description,
            "metrics": [asdict(metric) for metric in task_spec(name).metrics],
        }
        for name in recipe.audit.tasks
    }
    meta: Meta = {
        "toxoid_version": __version__,
        "name": recipe.name,
        "description": recipe.description,
        "model": _base_label(recipe.model),
        "judge": panel_identity(panel),
        "seed": recipe.seed,
        "samples": recipe.audit.samples,
        "sampling": recipe.audit.sampling.model_dump(),
        "systems": list(audited),
        "tasks": tasks,
        "fingerprint": dict(fingerprint),
        "warnings": [*_unjudged(recipe, panel, audited[BASE].scored), *_read_with_their_turn(recipe, panel)],
        "correction": why_not(recipe.audit.tasks, card),
    }
    if any(task_spec(name).course for name in recipe.audit.tasks):
        meta["course_correction"] = recipe.audit.course_correction.model_dump(mode="json")
    return meta


def _unjudged(recipe: Recipe, panel: Panel, scored: Sequence[Scored]) -> list[str]:
    """Return a line for every metric that the judges of the run do not answer: it is missing, not zero."""
    found = []
    for task in recipe.audit.tasks:
        for metric in task_spec(task).metrics:
            lacking = next((aspect for aspect in metric.aspects if aspect not in panel), None)
            if lacking is None and answered(scored, task, metric):
                continue
            why = f"answer `{lacking}`" if lacking else "say at which word a turn begins"
            found.append(
                f"{task}: {metric.name} is not reported, because the judges of this run do not {why}"
            )
    return found


def _read_with_their_turn(recipe: Recipe, panel: Panel) -> list[str]:
    """Return a line for every task that begins the turn itself, where the judge knows turns by their words."""
    judge = panel.get(CORR_MEAN.aspect)
    if judge is None or judge.name != CORRECTIONS:
        return []
    return [
        f"{task}: {CORR_MEAN.name} is an upper bound, because {CORRECTIONS} reads the turn that was given and hardly "
        "sees a reply that goes back to the harm"
        for task in recipe.audit.tasks
        if (course := task_spec(task).course) and course.trigger
    ]


def power_note(items: Sequence[Item], recipe: Recipe) -> str:
    """Return in one line, before anything is measured, which changes the run will probably be able to see."""
    found = [
        f"{row['task']} {effect:.0%}"
        for row in power_rows(items, recipe)
        if (effect := row["minimum_detectable_effect"]) is not None
    ]
    return f"smallest change that would be seen with 80 % probability: {', '.join(found) or 'none, too few items'}"


def power_rows(items: Sequence[Item], recipe: Recipe) -> list[Power]:
    """Return, by task, the smallest difference that the paired test would probably find."""
    found: list[Power] = []
    drawn = drawings(recipe)
    for task in recipe.audit.tasks:
        requests = [item.request.id for item in items if item.task == task]
        n = len(set(requests))
        if not n:
            continue
        replies = drawn[task].samples * len(requests) // n
        effect = minimum_detectable_effect(
            n, replies, EXPECTED_RATE, intra_cluster_correlation=EXPECTED_CORRELATION
        )
        found.append({"task": task, "n_items": n, "minimum_detectable_effect": effect and round(effect, 4)})
    return found
