"""The verbs as functions: what a program or a notebook calls, under the names that ``toxoid`` exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, Unpack, cast

from toxoid.audit.results import Results
from toxoid.config.loading import validate
from toxoid.config.recipe import ModelSection, Recipe, load_recipe, single_arm
from toxoid.config.shortcuts import ModelSettings, Settings, with_settings
from toxoid.config.suites import audit_recipe
from toxoid.data.schemas import Exchange, Request, user
from toxoid.engines.base import Engine
from toxoid.errors import UsageError
from toxoid.judges.base import Aspect, Verdict
from toxoid.judges.panel import Panel
from toxoid.loop import models
from toxoid.loop.judging import panel_of
from toxoid.loop.publish import publish, with_circumstances
from toxoid.loop.run import align, run_loop
from toxoid.loop.treat import Treated
from toxoid.progress import SILENT, Progress
from toxoid.store.run_directory import RunDirectory

Overrides: TypeAlias = Mapping[str, Any]
"""Any other value of a recipe, by its dotted place: ``{"training.epochs": 1}``."""


def run_recipe(recipe: Recipe, out: str | Path, *, command: str = "", progress: Progress = SILENT) -> Results:
    """Run a recipe, or continue its run, write the report, and return the results.

    Args:
        recipe: What to do: audit, treat, audit again.
        out: The run directory; the same call continues it.
        command: The command line that does the same, for cards and the report.
        progress: Where to report, e.g. ``toxoid.RichProgress``.

    Raises:
        UsageError: The recipe, the model, the data or the directory cannot work.
    """
    results = run_loop(recipe, Path(out), command=command, progress=progress)
    publish(Path(out))
    return results


def audit_model(
    model: str,
    out: str | Path,
    *,
    suite: str | None = None,
    recipe: str | Path | Recipe | None = None,
    overrides: Overrides | None = None,
    progress: Progress = SILENT,
    **settings: Unpack[Settings],
) -> Results:
    """Find out how a model fails, as ``toxoid audit`` does.

    Args:
        model: A checkpoint folder, a Hub id, ``lab-base``, a model's name at an endpoint, or a plug-in's engine.
        out: The run directory; the same call continues it.
        suite: ``quick``, ``standard`` or ``full``.
        recipe: In place of a suite; its arms are left out. By default ``audit``.
        overrides: Any other value of the recipe, by its dotted place.
        progress: Where to report.
        settings: See :class:`toxoid.config.shortcuts.Settings`.

    Raises:
        UsageError: Something that was given cannot work.
    """
    resolved = audit_recipe(model, settings, suite=suite, recipe=recipe, overrides=overrides)
    return run_recipe(resolved, out, progress=progress)


def align_model(
    model: str,
    out: str | Path,
    *,
    method: str = "mistake-analysis",
    recipe: str | Path | Recipe = "default",
    overrides: Overrides | None = None,
    progress: Progress = SILENT,
    **settings: Unpack[Settings],
) -> Treated:
    """Treat a model by one method, without audits; return where the adapter or model is, and what made it.

    Args:
        model: A checkpoint folder, a Hub id, or ``lab-base``.
        out: The run directory; the same call continues it.
        method: See ``toxoid.available("methods")``.
        recipe: Training and data.
        overrides: Any other value of the recipe, by its dotted place.
        progress: Where to report.
        settings: See :class:`toxoid.config.shortcuts.Settings`.

    Raises:
        UsageError: Something that was given cannot work.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    resolved = with_settings(single_arm(loaded, method), settings, model=model, overrides=overrides)
    return align(resolved, Path(out), progress=progress)


def shield_model(
    model: str,
    out: str | Path,
    *,
    recipe: str | Path | Recipe = "shield",
    overrides: Overrides | None = None,
    progress: Progress = SILENT,
    **settings: Unpack[Settings],
) -> Treated:
    """Make a shield for a model, its weights untouched; the arguments are those of :func:`align_model`.

    Raises:
        UsageError: Something that was given cannot work.
    """
    return align_model(
        model,
        out,
        method="contrastive-decoding",
        recipe=recipe,
        overrides=overrides,
        progress=progress,
        **settings,
    )


def read_results(directory: str | Path) -> Results:
    """Return what a finished run measured, with when, where and how long.

    Raises:
        UsageError: There is no finished run in ``directory``.
    """
    return cast(Results, with_circumstances(RunDirectory.read(directory)))


def load_engine(
    model: str = "lab-base",
    *,
    guided: bool = False,
    decoding: Mapping[str, Any] | None = None,
    **settings: Unpack[ModelSettings],
) -> Engine:
    """Return what asks a model: plain, guided, behind a shield, or under two prompts in contrast.

    Args:
        model: As in :func:`audit_model`.
        guided: Put the safe system prompt before every conversation.
        decoding: What differs from the shield's decoding; without a shield, one by manual prompts. Keys as in
            :class:`toxoid.config.sections.DecodingSection`.
        settings: See :class:`toxoid.config.shortcuts.ModelSettings`.

    Raises:
        UsageError: The model or the shield cannot be loaded, or they do not fit.
    """
    given = {"source": model, "decoding": dict(decoding or {}), **settings}
    engine = models.open_engine(validate(ModelSection, given, source="load_engine"))
    return models.guided(engine) if guided else engine


def load_judges(name: str = "refusal", *, model: str | None = None, endpoint: str | None = None) -> Panel:
    """Return judges by the aspect that they answer.

    Args:
        name: As for ``--judge``: a name of ``toxoid.available("judges")``, a folder, a Hub name; ``+`` joins several.
        model: What the ``llm`` judge asks.
        endpoint: Its server.

    Raises:
        UsageError: An unknown name, a judge that cannot be loaded, or an LLM judge without a model.
    """
    return panel_of(name, model=model, endpoint=endpoint)


def judge_texts(
    judges: Panel, aspect: Aspect, prompts: Sequence[str], replies: Sequence[str] | None = None
) -> list[Verdict]:
    """Return a judge's verdict on each prompt, or on each reply to it.

    Args:
        judges: By aspect.
        aspect: ``problematic`` reads prompts alone; all others read replies, see :data:`toxoid.judges.base.Aspect`.
        prompts: What was asked.
        replies: What was answered, one for each prompt.

    Raises:
        UsageError: No judge answers the aspect, replies are missing, or there are more of one than of the other.
    """
    if aspect not in judges:
        raise UsageError(f'no judge answers "{aspect}": these answer {", ".join(sorted(judges))}')
    if replies is None and aspect != "problematic":
        raise UsageError(f'"{aspect}" is asked of replies: give replies, one for each prompt')
    answered = [""] * len(prompts) if replies is None else replies
    if len(answered) != len(prompts):
        raise UsageError(
            f"{len(prompts)} prompts and {len(answered)} replies were given: give as many of both"
        )
    exchanges = [
        Exchange(Request(f"texts/{number}", prompt), user(prompt), reply)
        for number, (prompt, reply) in enumerate(zip(prompts, answered, strict=True))
    ]
    return judges[aspect].judge(exchanges, aspect)
