"""The closed loop, top to bottom: audit the model, treat it, audit it again, say what changed."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from toxoid.audit.items import Item, items_fingerprint
from toxoid.audit.results import Results
from toxoid.audit.run import Scored, run_audit
from toxoid.audit.scored_files import write_scored
from toxoid.audit.slim import Slimmer
from toxoid.audit.tasks import CAMPAIGNS, TRANSFER
from toxoid.config.recipe import BASE, ArmSection, Recipe
from toxoid.engines.base import Engine
from toxoid.engines.cached import CachedEngine
from toxoid.engines.metered import Meter, MeteredEngine, PromptTokens, Usage, by_bytes
from toxoid.errors import UsageError
from toxoid.judges.cached import CachedJudge
from toxoid.judges.panel import Panel, panel_identity
from toxoid.loop import models
from toxoid.loop.campaigns import Campaigns
from toxoid.loop.capability import Capability
from toxoid.loop.catalogue import plugins_named
from toxoid.loop.judging import choose_panel
from toxoid.loop.kept import note_speed, scored_path
from toxoid.loop.preview import Plan, measured_pace, pace_line, plan, plan_lines, task_lines
from toxoid.loop.requests import Requests, attack_notes, audit_items, drawings, load_all
from toxoid.loop.results import Audited, assemble, power_note
from toxoid.loop.treat import Treated, treat
from toxoid.progress import SILENT, Progress
from toxoid.store.files import write_json_atomic
from toxoid.store.run_directory import RunDirectory

if TYPE_CHECKING:
    from toxoid.attacks.many_shot import Room
    from toxoid.engines.loading import LoadedModel

_GUIDANCE_TOKENS = 128
"""Room that many-shot attacks leave for a system prompt or the soft prompts of a shield."""

_PROMPTS = (
    "system",
    "mistake_analysis",
    "course_correction",
    "self_reminder",
    "in_context_defence",
    "chain_of_hindsight",
    "critique_revise",
    "hindsight_relabeling",
)
"""The files of prompts that treatments use."""


@dataclass(frozen=True)
class _Prepared:
    """What a run works with, loaded and checked."""

    requests: Requests
    items: Sequence[Item]
    base: LoadedModel | None
    engine: Engine
    panel: Panel
    capability: Capability
    campaigns: Campaigns
    plan: Plan
    meter: Meter

    def power_note(self, recipe: Recipe) -> str:
        """Say which changes the run will probably be able to see."""
        return power_note([*self.items, *self.campaigns.coming], recipe)


@dataclass
class _Loop:
    """What the stages share."""

    recipe: Recipe
    given: _Prepared
    engine: Engine
    run: RunDirectory
    panel: Panel
    command: str
    progress: Progress
    timings: dict[str, float] = field(default_factory=dict)

    def audit(
        self, name: str, engine: Engine, tasks: Sequence[str] | None = None, *, guided: bool = False
    ) -> Audited:
        """Audit one system; what it replied goes to a file as it comes, and is kept without its texts."""
        started, metered = time.monotonic(), MeteredEngine(engine, self.given.meter, self._tell_pace(name))
        asked: Engine = CachedEngine(metered, self.run.records)
        asked = models.guided(asked) if guided or self.recipe.audit.guided else asked
        slimmer, path = Slimmer(), scored_path(self.run, name)
        write_scored(path, slimmer.passing(self._scored(name, asked, tasks or self.recipe.audit.tasks)))
        self.note_time(f"audit {name}", started)
        note_speed(self.run, name, metered.used)
        self.given.capability.measure(name, engine, self.run, self.progress)
        return Audited(slimmer.kept, path, slimmer.reply_tokens, engine.identity())

    def _scored(self, name: str, engine: Engine, tasks: Sequence[str]) -> Iterator[Scored]:
        """Yield what a system makes of the frozen items, of campaigns, and of what these found on the base."""
        campaigns = self.given.campaigns
        yield from self._asked(name, engine, [item for item in self.given.items if item.task in tasks])
        if CAMPAIGNS in tasks:
            yield from campaigns.play(engine, self.panel, self.run.records, self.progress, name)
        if TRANSFER in tasks:
            yield from self._asked(name, engine, campaigns.found)

    def _asked(self, name: str, engine: Engine, items: Sequence[Item]) -> Iterator[Scored]:
        return run_audit(
            engine,
            self.panel,
            items,
            drawings=drawings(self.recipe),
            seed=self.recipe.seed,
            progress=self.progress,
            name=f"audit {name}",
        )

    def _tell_pace(self, name: str) -> Callable[[Usage], None] | None:
        total = self.given.plan.total
        return (lambda taken: self.progress.note(pace_line(taken, total))) if name == BASE else None

    def treat(self, arm: ArmSection, done: dict[str, Treated]) -> Treated:
        """Treat the model as one arm says, or take what an earlier arm left."""
        if arm.artifact_of:
            return Treated(done[arm.artifact_of].path, steps=0, tokens=0, counts={}, examples={})
        assert self.given.base is not None, "checked when the run was opened"
        started = time.monotonic()
        treated = treat(
            self.recipe,
            arm,
            base=self.given.base,
            engine=self.engine,
            panel=self.panel,
            training=self.given.requests.train[arm.name],
            run=self.run,
            matched=done[arm.match_steps_of] if arm.match_steps_of else None,  # the recipe lists it earlier
            shield=done[arm.shield_of].path if arm.shield_of else None,
            command=self.command,
            progress=self.progress,
        )
        self.note_time(f"treat {arm.name}", started)
        return treated

    def audit_arm(self, arm: ArmSection, treated: Treated) -> Audited:
        """Audit a treated model."""
        assert self.given.base is not None, "checked when the run was opened"
        engine = models.treated_engine(self.recipe.model, self.given.base, arm, treated.path)
        return self.audit(arm.name, engine, arm.tasks, guided=arm.guided)

    def note_time(self, stage: str, started: float) -> None:
        """Keep how long a stage took; what was cached takes no time and keeps its first measurement."""
        path = self.run.path / "timings.json"
        self.timings.setdefault(stage, round(time.monotonic() - started, 2))
        write_json_atomic(path, self.timings)


def run_loop(recipe: Recipe, directory: Path, *, command: str = "", progress: Progress = SILENT) -> Results:
    """Run a recipe in a directory, or continue the run that is there, and return its results.

    ``results.json`` depends on the fingerprint only: a run that was killed and continued writes the same bytes
    as one that was not. Times are kept beside it, in ``timings.json``.

    Raises:
        UsageError: The recipe, the model, the data or the directory cannot work.
    """
    with _opened(recipe, directory, command, progress) as loop:
        return _stages(loop)


def align(recipe: Recipe, directory: Path, *, command: str = "", progress: Progress = SILENT) -> Treated:
    """Run the recipe's first treatment without any audit, and return what it left.

    Raises:
        UsageError: The recipe, the model, the data or the directory cannot work.
    """
    with _opened(recipe, directory, command, progress) as loop:
        return loop.treat(recipe.arms[0], {})


def preview(recipe: Recipe) -> list[str]:
    """Return, line by line, what a run would cost and could show; nothing is written.

    The time is measured on a few questions, unless the model is behind an endpoint: those may cost money.

    Raises:
        UsageError: The recipe, the model or the data cannot work, or the run could exceed its caps.
    """
    given = _prepare(recipe)
    with closing(given.engine):
        local = given.base is not None
        pace = pace_line(measured_pace(given.engine, given.plan.requests), given.plan.total) if local else ""
    return [
        *plan_lines(given.plan, recipe.budget),
        *task_lines(given.plan),
        pace or "time: not measured, for the questions to an endpoint may cost money",
        given.power_note(recipe),
        *given.requests.notes(),
        *attack_notes(recipe, given.items),
        *given.capability.notes,
    ]


@contextmanager
def _opened(recipe: Recipe, directory: Path, command: str, progress: Progress) -> Iterator[_Loop]:
    """Load what a run needs and open its directory; everything that can be wrong is found before that."""
    given = _prepare(recipe)
    fingerprint = _fingerprint(recipe, given)
    settings = recipe.model_dump(mode="json")
    with RunDirectory.open(directory, fingerprint=fingerprint, recipe=settings, info=_machine()) as run:
        cached: Panel = {aspect: CachedJudge(judge, run.records) for aspect, judge in given.panel.items()}
        with closing(given.engine):
            asked = CachedEngine(given.engine, run.records)
            yield _Loop(recipe, given, asked, run, cached, command, progress, _timings(run))


def _prepare(recipe: Recipe) -> _Prepared:
    """Load and check what a run needs.

    Raises:
        UsageError: Something cannot work, or the run could exceed its caps.
    """
    if recipe.arms and recipe.model.elsewhere:
        raise UsageError(
            f'arm "{recipe.arms[0].name}" trains the model, whose weights are elsewhere (endpoint, plug-in): give '
            "a checkpoint folder or Hub id, or audit it with `toxoid audit`"
        )
    requests = load_all(recipe)
    capability = Capability(recipe)
    base = None if recipe.model.elsewhere else models.load(recipe.model)
    items = audit_items(recipe, requests, _room(recipe, base) if base else None)
    panel = choose_panel(recipe)
    engine = (
        models.local_engine(base, recipe.model)
        if base
        else models.open_engine(recipe.model, prefill=_prefills(items))
    )
    counted = _counted(base) if base else by_bytes
    meter = Meter(counted, max_replies=recipe.budget.requests, max_tokens=recipe.budget.tokens)
    campaigns = Campaigns(recipe, requests, base)
    planned = plan(recipe, items, panel, counted, exact=base is not None, coming=campaigns.coming)
    meter.check(planned.total)
    return _Prepared(requests, items, base, engine, panel, capability, campaigns, planned, meter)


def _counted(base: LoadedModel) -> PromptTokens:
    """Return what counts the tokens of a prompt as the model reads it."""
    from toxoid.engines.local import LocalEngine

    engine = LocalEngine(base)
    return lambda conversation, prefill: len(engine.prompts(conversation, prefill)[0])


def _room(recipe: Recipe, base: LoadedModel) -> Room | None:
    """Return the context that many-shot may fill; ``None`` where the model states no limit."""
    from toxoid.attacks.many_shot import Room

    count = _counted(base)
    context = getattr(base.model.config.get_text_config(), "max_position_embeddings", None)
    taken = recipe.audit.sampling.max_tokens + _GUIDANCE_TOKENS
    return Room(context - taken, lambda conversation: count(conversation, "")) if context else None


def _stages(loop: _Loop) -> Results:
    given = loop.given
    for line in (*plan_lines(given.plan, loop.recipe.budget), given.power_note(loop.recipe)):
        loop.progress.note(line)
    audited = {BASE: loop.audit(BASE, given.engine)}
    treated: dict[str, Treated] = {}
    for arm in loop.recipe.arms:
        treated[arm.name] = loop.treat(arm, treated)
        audited[arm.name] = loop.audit_arm(arm, treated[arm.name])
    results = assemble(
        loop.recipe,
        audited,
        treated,
        loop.panel,
        given.capability,
        transferred=given.campaigns.found,
        fingerprint=loop.run.fingerprint,
        notes=[*given.requests.notes(), *attack_notes(loop.recipe, given.items)],
    )
    write_json_atomic(loop.run.results_path, results)
    loop.run.mark_done("loop", {"command": loop.command})
    return results


def _prefills(items: Sequence[Item]) -> Literal["auto", "continue"]:
    """Return how a server is to take prefills: course-correction in a closed turn would measure something else."""
    return "continue" if any(item.cut for item in items) else "auto"


def _fingerprint(recipe: Recipe, given: _Prepared) -> dict[str, Any]:
    """Return everything the results depend on."""
    from toxoid import __version__
    from toxoid.config.prompt_files import prompts_hash

    settings = recipe.model_dump(mode="json", exclude={"model", "judge", "report", "description", "budget"})
    inputs = models.inputs_of(recipe)
    return {
        "toxoid": __version__,
        "recipe": settings,
        "model": given.engine.identity(),
        "judges": panel_identity(given.panel),
        "items": items_fingerprint(given.items),
        "data": given.requests.hashes() | given.capability.hashes(),
        "prompts": prompts_hash(_PROMPTS),
        **({"inputs": inputs} if inputs else {}),
        **({"plugins": named} if (named := plugins_named(recipe.model_dump(mode="json"))) else {}),
        **({"campaigns": played} if (played := given.campaigns.identity()) else {}),
    }


def _machine() -> dict[str, Any]:
    """Return the circumstances that do not decide the results: kept in the manifest, shown in the report."""
    import torch
    import transformers

    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _timings(run: RunDirectory) -> dict[str, float]:
    path = run.path / "timings.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
