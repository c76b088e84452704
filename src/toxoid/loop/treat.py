"""One treatment: make the training set, train, keep both as artefacts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toxoid.config.recipe import ArmSection, Recipe
from toxoid.data.groups import group_row
from toxoid.data.schemas import as_dicts
from toxoid.data.writing import write_jsonl_atomic
from toxoid.engines.base import Engine, Sampling
from toxoid.engines.cached import CachedEngine
from toxoid.judges.panel import Panel
from toxoid.loop import models
from toxoid.loop.requests import Training
from toxoid.loop.training_cards import write_card
from toxoid.methods.base import MethodInput, TrainingSet
from toxoid.methods.registry import make_method
from toxoid.progress import Prefixed, Progress
from toxoid.store.files import disk_errors, write_json_atomic
from toxoid.store.run_directory import RunDirectory

if TYPE_CHECKING:
    from toxoid.engines.loading import LoadedModel
    from toxoid.engines.local import LocalEngine
    from toxoid.training.examples import Example
    from toxoid.training.rlhf.settings import Pair


_NOTHING: dict[str, Any] = {"steps": 0, "tokens": 0, "seconds": 0.0, "losses": []}
"""What a treatment without training tells."""


@dataclass(frozen=True)
class Treated:
    """What a treatment left: the artefact's folder and the facts of its training."""

    path: Path
    steps: int
    tokens: int
    counts: Mapping[str, int]
    examples: Mapping[str, int]


def treat(
    recipe: Recipe,
    arm: ArmSection,
    *,
    base: LoadedModel,
    engine: Engine,
    panel: Panel,
    training: Training,
    run: RunDirectory,
    matched: Treated | None,
    shield: Path | None,
    command: str,
    progress: Progress,
) -> Treated:
    """Run one arm's treatment, or return what an earlier call left.

    Args:
        recipe: The whole recipe.
        arm: The arm to run.
        base: The untreated model; it is not changed.
        engine: The untreated model's engine.
        panel: The judges.
        training: The arm's requests.
        run: Where the artefacts are kept.
        matched: The treatment whose number of optimiser steps this one has to take, if any.
        shield: What an earlier arm left for this one to distil, if anything.
        command: The command line that makes the model, for its card; empty if there is none.
        progress: Where to report.

    Raises:
        UsageError: The method found nothing to train on.
    """
    stage = f"treat-{arm.name}"
    if not run.stage_done(stage):
        teacher = _teacher(arm, base, shield)
        learnt = None if teacher is None else CachedEngine(teacher, run.records)
        made = _synthesise(recipe, arm, engine, learnt, panel, training, progress)
        payload = (
            _train(recipe, arm, base, teacher, made, run, matched, command, progress)
            if made.trains
            else _NOTHING
        )
        _write_files(run.artifact(arm.name), made.files)
        told = {"counts": dict(made.counts), "examples": made.by_source()}
        run.mark_done(stage, payload | told)
    if run.artifact(f"data/{arm.name}.jsonl").is_file():
        write_card(recipe, arm, run, sha256=training.sha256, notes=training.notes)
    return _treated(run.artifact(arm.name), run.stage_payload(stage))


def _teacher(arm: ArmSection, base: LoadedModel, shield: Path | None) -> LocalEngine | None:
    """Return the model under the shield that an arm is to distil, if it is to distil one."""
    folder = shield or arm.options.get("shield") if arm.method == "shield-distilled" else None
    return None if folder is None else models.teacher_engine(base, str(folder))


def _synthesise(
    recipe: Recipe,
    arm: ArmSection,
    engine: Engine,
    teacher: Engine | None,
    panel: Panel,
    training: Training,
    progress: Progress,
) -> TrainingSet:
    sampling = recipe.audit.sampling
    return make_method(arm.method).synthesise(
        MethodInput(
            engine=engine,
            judges=panel,
            harmful=training.harmful,
            benign=training.benign,
            options=arm.options,
            sampling=Sampling(sampling.temperature, sampling.top_p, sampling.max_tokens),
            seed=recipe.seed,
            progress=Prefixed(progress, arm.name),
            other=models.other_engine(arm),
            teacher=teacher,
        )
    )


def _train(
    recipe: Recipe,
    arm: ArmSection,
    base: LoadedModel,
    teacher: LocalEngine | None,
    made: TrainingSet,
    run: RunDirectory,
    matched: Treated | None,
    command: str,
    progress: Progress,
) -> dict[str, Any]:
    from toxoid.training.artifacts import Card

    settings = training_settings(recipe, arm, matched)
    places: dict[str, Any] = {
        "output": run.artifact(arm.name),
        "checkpoints": run.artifact(f"checkpoints/{arm.name}"),
        "progress": Prefixed(progress, arm.name),
        "card": Card(method=arm.method, command=command, sources=made.by_source()),
    }
    write_jsonl_atomic(run.artifact(f"data/{arm.name}.jsonl"), _rows(made.examples))
    if made.prompts is not None:
        from toxoid.training.soft_prompts.settings import PromptConfig
        from toxoid.training.soft_prompts.train import train_opposite_prompts

        prompts = made.prompts
        result = train_opposite_prompts(
            base,
            prompts.anchors,
            PromptConfig(**settings, objective=prompts.objective, tokens=prompts.tokens),
            safe_text=prompts.safe_text,
            opposite_text=prompts.opposite_text,
            placement=prompts.placement,
            contrast=prompts.contrast,
            **places,
        )
    elif made.reward is not None:
        from toxoid.training.rlhf.settings import RLHFConfig
        from toxoid.training.rlhf.train import train_rlhf

        reward = made.reward
        write_jsonl_atomic(run.artifact(f"data/{arm.name}.pairs.jsonl"), map(_pair_row, reward.pairs))
        result = train_rlhf(
            base, reward.pairs, reward.prompts, RLHFConfig(**settings, objective=reward.objective), **places
        )
    elif made.student is not None:
        from toxoid.training.soft_prompts.distil import train_distilled
        from toxoid.training.soft_prompts.settings import DistilConfig

        assert teacher is not None, "the method has asked it"
        student = DistilConfig(**settings, form=made.student.form, modules=made.student.modules)
        result = train_distilled(teacher, made.examples, student, **places)
    elif made.preferences is None:
        from toxoid.training.sft import SFTConfig, train_sft

        result = train_sft(base, made.examples, SFTConfig(**settings), **places)
    else:
        from toxoid.training.preference import PreferenceConfig, train_preferences

        groups = made.preferences.examples
        write_jsonl_atomic(
            run.artifact(f"data/{arm.name}.groups.jsonl"), (group_row(example.group) for example in groups)
        )
        config = PreferenceConfig(**settings, objective=made.preferences.objective)
        result = train_preferences(
            base, groups, config, anchors=made.examples, references=run.records, **places
        )
    return {
        "steps": result.steps,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "losses": [round(loss, 6) for loss in result.losses],
    }


def _pair_row(pair: Pair) -> dict[str, Any]:
    """Return a pair in TRL's conversational layout."""
    return {
        "prompt": as_dicts(pair.conversation),
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        "kind": pair.kind,
    }


def _write_files(folder: Path, files: Mapping[str, Any]) -> None:
    for name, document in files.items():
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_json_atomic(folder / name, document)


def training_settings(recipe: Recipe, arm: ArmSection, matched: Treated | None) -> dict[str, Any]:
    """Return the training settings of an arm: the recipe's, the arm's overrides, the matched steps."""
    settings = recipe.training.model_dump() | arm.training
    if matched is not None:
        settings["max_steps"] = matched.steps
    return {**settings, "seed": recipe.seed}


def _rows(examples: Iterable[Example]) -> Iterator[dict[str, Any]]:
    """Yield examples in the ``messages`` layout; the last message is the target, ``prefill`` what it goes on from."""
    for example in examples:
        yield {
            "messages": [*as_dicts(example.conversation), {"role": "assistant", "content": example.target}],
            "source": example.source,
            "weight": example.weight,
            **({"prefill": example.prefill} if example.prefill else {}),
        }


def _treated(path: Path, payload: Mapping[str, Any]) -> Treated:
    return Treated(path, payload["steps"], payload["tokens"], payload["counts"], payload["examples"])
