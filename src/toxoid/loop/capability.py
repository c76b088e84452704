"""Measures the capability of a run's systems: likelihood of held-out texts, and lm-eval's results read in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toxoid.audit.capability import Costs, task_rows, task_scores, text_rows, text_scores
from toxoid.audit.lm_eval import read_lm_eval
from toxoid.audit.rates import Settings
from toxoid.audit.results import CapabilityRow, CapabilityScore
from toxoid.config.recipe import Recipe
from toxoid.data.texts import TextSet, load_texts
from toxoid.data.writing import write_jsonl_atomic
from toxoid.engines.base import Engine
from toxoid.progress import Progress
from toxoid.store.keys import file_sha256
from toxoid.store.run_directory import RunDirectory

if TYPE_CHECKING:
    from toxoid.engines.local import LocalEngine

AUTO = "auto"
_LAB_TEXTS = "lab-benign"


class Capability:
    """What a run measures of its systems beside their replies.

    Args:
        recipe: Says which texts, and which files of lm-eval.

    Raises:
        UsageError: A set of texts or a file of lm-eval cannot be read.
    """

    def __init__(self, recipe: Recipe) -> None:
        section = recipe.capability
        source = _auto(recipe) if section.texts == AUTO else section.texts
        self.texts: TextSet | None = (
            load_texts(source, limit=section.limit, seed=recipe.seed)
            if source and not recipe.model.elsewhere
            else None
        )
        self._files = {
            system: [Path(name).expanduser() for name in names] for system, names in section.lm_eval.items()
        }
        self._tasks = {
            system: [score for path in paths for score in read_lm_eval(path)]
            for system, paths in self._files.items()
        }
        self._window = section.window
        self._settings = Settings(
            recipe.statistics.level, recipe.statistics.resamples, recipe.statistics.seed
        )
        self._costs: dict[str, Costs] = {}
        self.notes: list[str] = []
        if source and recipe.model.elsewhere:
            self.notes.append(
                "perplexity is not measured: the model is elsewhere, and gives no likelihoods of given texts"
            )

    def hashes(self) -> dict[str, str]:
        """Return what identifies the texts and files, for the fingerprint."""
        found = {} if self.texts is None else {"capability": f"{self.texts.name}:{self.texts.sha256}"}
        files = {
            f"lm-eval/{system}/{number}": file_sha256(path)
            for system, paths in self._files.items()
            for number, path in enumerate(paths)
        }
        return found | files

    def measure(self, name: str, engine: Engine, run: RunDirectory, progress: Progress) -> None:
        """Measure one system, or read what the run has measured of it before."""
        if self.texts is None:
            return
        path = costs_path(run, name)
        if not path.is_file():
            local = _local(engine)
            if local is None or local.prompting.identity:
                self.notes.append(
                    f"{name}: perplexity is not measured, because it is decoded under prompts of its own and its "
                    "weights are not all that answers; see how helpful its replies are"
                )
                return
            self._predict(name, local, path, progress)
        self._costs[name] = read_costs(path)

    def _predict(self, name: str, engine: LocalEngine, path: Path, progress: Progress) -> None:
        from toxoid.engines.likelihood import predict

        assert self.texts is not None, "asked by measure, which has texts"
        texts = self.texts.texts
        with progress.task(f"predict texts {name}", len(texts), "windows") as task:
            found = predict(engine.loaded, texts, window=self._window, on_done=task.advance)
        rows = [
            {"id": text.id, "nats": each.nats, "tokens": each.tokens, "bytes": each.bytes}
            for text, each in zip(texts, found, strict=True)
        ]
        write_jsonl_atomic(path, rows)

    def scores(self, system: str) -> list[CapabilityScore]:
        """Return what was measured of a system."""
        costs = self._costs.get(system)
        own = text_scores(costs, self._settings) if costs else []
        return [*own, *task_scores(self._tasks.get(system, ()), self._settings)]

    def rows(self, before: str, after: str) -> list[CapabilityRow]:
        """Return the differences of what was measured of both systems."""
        return capability_rows(
            (self._costs.get(before), self._costs.get(after)),
            (self.scores(before), self.scores(after)),
            self._settings,
        )


def capability_rows(
    costs: tuple[Costs | None, Costs | None],
    scores: tuple[Sequence[CapabilityScore], Sequence[CapabilityScore]],
    settings: Settings,
) -> list[CapabilityRow]:
    """Return the differences between two systems: of texts that both predicted, of tasks that lm-eval measured."""
    texts = text_rows(costs[0], costs[1], settings) if costs[0] and costs[1] else []
    return [*texts, *task_rows(*scores, settings)]


def costs_path(run: RunDirectory, system: str) -> Path:
    """Return where a run keeps what the texts cost one of its systems."""
    return run.path / "artifacts" / "capability" / f"{system}.jsonl"


def read_costs(path: Path) -> dict[str, tuple[float, int, int]]:
    """Return what texts cost a system, by text."""
    rows: list[Mapping[str, Any]] = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {row["id"]: (row["nats"], row["tokens"], row["bytes"]) for row in rows}


def _auto(recipe: Recipe) -> str | None:
    """Return the lab's good replies where all requests are the lab's."""
    lab = all(source.startswith("lab-") for source in recipe.data.sets.values())
    return _LAB_TEXTS if lab else None


def _local(engine: Any) -> LocalEngine | None:
    """Return the engine that runs the model, below caches, meters and rewordings, if that is a plain one."""
    from toxoid.engines.local import LocalEngine

    while hasattr(engine, "engine"):
        engine = engine.engine
    return engine if type(engine) is LocalEngine else None
