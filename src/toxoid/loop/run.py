"""The closed loop, top to bottom: audit the model, treat it, audit it again, say what changed."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from toxoid.audit.items import Item, items_fingerprint
from toxoid.audit.results import Results
from toxoid.audit.run import Scored, run_audit
from toxoid.audit.scored_files import write_scored
from toxoid.config.recipe import BASE, ArmSection, Recipe
from toxoid.engines.base import Engine
from toxoid.engines.cached import CachedEngine
from toxoid.errors import UsageError
from toxoid.judges.cached import CachedJudge
from toxoid.judges.panel import Panel, panel_identity
from toxoid.loop import models
from toxoid.loop.judging import choose_panel
from toxoid.loop.requests import Requests, audit_items, drawings, load_all
from toxoid.loop.results import assemble, power_note
from toxoid.loop.treat import Treated, treat
from toxoid.progress import SILENT, Progress
from toxoid.store.files import write_json_atomic
from toxoid.store.run_directory import RunDirectory

if TYPE_CHECKING:
    from toxoid.engines.loading import LoadedModel


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


@dataclass
class _Loop:
    """What the stages share."""

    recipe: Recipe
    requests: Requests
    items: Sequence[Item]
    base: LoadedModel | None
    engine: Engine
    run: RunDirectory
    panel: Panel
    command: str
    progress: Progress
    timings: dict[str, float] = field(default_factory=dict)
    identities: dict[str, dict[str, Any]] = field(default_factory=dict)

    def audit(
        self, name: str, engine: Engine, tasks: Sequence[str] | None = None, *, guided: bool = False
    ) -> list[Scored]:
        """Audit one system on the frozen items."""
        started = time.monotonic()
        self.identities[name] = engine.identity()
        scored = run_audit(
            models.guided(engine) if guided or self.recipe.audit.guided else engine,
            self.panel,
            [item for item in self.items if tasks is None or item.task in tasks],
            drawings=drawings(self.recipe),
            seed=self.recipe.seed,
            progress=self.progress,
            name=f"audit {name}",
        )
        write_scored(scored_path(self.run, name), scored)
        self.note_time(f"audit {name}", started)
        return scored

    def treat(self, arm: ArmSection, done: dict[str, Treated]) -> Treated:
        """Treat the model as one arm says, or take what an earlier arm left."""
        if arm.artifact_of:
            return Treated(done[arm.artifact_of].path, steps=0, tokens=0, counts={}, examples={})
        assert self.base is not None, "checked when the run was opened"
        started = time.monotonic()
        treated = treat(
            self.recipe,
            arm,
            base=self.base,
            engine=self.engine,
            panel=self.panel,
            training=self.requests.train[arm.name],
            run=self.run,
            matched=done[arm.match_steps_of] if arm.match_steps_of else None,  # the recipe lists it earlier
            command=self.command,
            progress=self.progress,
        )
        self.note_time(f"treat {arm.name}", started)
        return treated

    def audit_arm(self, arm: ArmSection, treated: Treated) -> list[Scored]:
        """Audit a treated model."""
        assert self.base is not None, "checked when the run was opened"
        engine = models.treated_engine(self.recipe.model, self.base, arm, treated.path)
        engine = CachedEngine(engine, self.run.records)
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


@contextmanager
def _opened(recipe: Recipe, directory: Path, command: str, progress: Progress) -> Iterator[_Loop]:
    """Load what a run needs and open its directory; everything that can be wrong is found before that."""
    if recipe.arms and recipe.model.endpoint:
        raise UsageError(
            f'arm "{recipe.arms[0].name}" trains the model, and an endpoint\'s weights are elsewhere: give a '
            "checkpoint folder or Hub id, or audit the endpoint with `toxoid audit`"
        )
    requests = load_all(recipe)
    items = audit_items(recipe, requests)
    base = None if recipe.model.endpoint else models.load(recipe.model)
    panel = choose_panel(recipe)
    engine = (
        models.local_engine(base, recipe.model)
        if base
        else models.endpoint_engine(recipe.model, prefill=_prefills(items))
    )
    fingerprint = _fingerprint(recipe, requests, items, engine, panel)
    settings = recipe.model_dump(mode="json")
    with RunDirectory.open(directory, fingerprint=fingerprint, recipe=settings, info=_machine()) as run:
        cached: Panel = {aspect: CachedJudge(judge, run.records) for aspect, judge in panel.items()}
        with closing(engine):
            asked = CachedEngine(engine, run.records)
            yield _Loop(recipe, requests, items, base, asked, run, cached, command, progress, _timings(run))


def _stages(loop: _Loop) -> Results:
    loop.progress.note(power_note(loop.items, loop.recipe))
    scored = {BASE: loop.audit(BASE, loop.engine)}
    treated: dict[str, Treated] = {}
    for arm in loop.recipe.arms:
        treated[arm.name] = loop.treat(arm, treated)
        scored[arm.name] = loop.audit_arm(arm, treated[arm.name])
    results = assemble(
        loop.recipe,
        scored,
        treated,
        loop.panel,
        identities=loop.identities,
        fingerprint=loop.run.fingerprint,
        notes=loop.requests.notes(),
    )
    write_json_atomic(loop.run.results_path, results)
    loop.run.mark_done("loop", {"command": loop.command})
    return results


def _prefills(items: Sequence[Item]) -> Literal["auto", "continue"]:
    """Return how a server is to take prefills: course-correction in a closed turn would measure something else."""
    return "continue" if any(item.cut for item in items) else "auto"


def scored_path(run: RunDirectory, system: str) -> Path:
    """Return where a run keeps the scored items of one of its systems."""
    return run.path / "artifacts" / "scored" / f"{system}.jsonl"


def _fingerprint(
    recipe: Recipe, requests: Requests, items: Sequence[Item], engine: Engine, panel: Panel
) -> dict[str, Any]:
    """Return everything the results depend on."""
    from toxoid import __version__
    from toxoid.config.prompt_files import prompts_hash

    settings = recipe.model_dump(mode="json", exclude={"model", "report", "description"})
    inputs = models.inputs_of(recipe)
    return {
        "toxoid": __version__,
        "recipe": settings,
        "model": engine.identity(),
        "judges": panel_identity(panel),
        "items": items_fingerprint(items),
        "data": requests.hashes(),
        "prompts": prompts_hash(_PROMPTS),
        **({"inputs": inputs} if inputs else {}),
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
