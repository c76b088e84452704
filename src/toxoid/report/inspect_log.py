"""inspect_ai logs: a run's conversations and scores for ``inspect view`` and whatever reads ``.eval`` files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from toxoid.audit.rates import clusters
from toxoid.audit.results import RateRow, Results, System
from toxoid.audit.run import Scored
from toxoid.audit.tasks import task_spec
from toxoid.audit.verdict import ALL
from toxoid.engines.base import Completion
from toxoid.errors import UsageError
from toxoid.report.subject import item_id
from toxoid.store.files import disk_errors
from toxoid.store.keys import content_key
from toxoid.training.card import base_name

CLUSTER = "request"
"""Key of a sample's metadata that holds its request's id: ``stderr(cluster="request")``."""

_NEVER = "1970-01-01T00:00:00+00:00"
_STOP = {"length": "max_tokens"}


def write_inspect_logs(
    folder: Path, results: Results, system: System, scored: Sequence[Scored]
) -> list[Path]:
    """Write one ``<task>.eval`` per audit task of a system into ``folder`` and return their paths.

    Args:
        folder: Made as needed; what ``inspect view --log-dir`` takes. Logs of these names are replaced.
        results: Of the run.
        system: The system in these results.
        scored: Its scored items.

    Raises:
        UsageError: inspect_ai is not installed, or the folder cannot be written to.
    """
    write = _inspect("log").write_eval_log
    paths = []
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for task, log in inspect_logs(results, system, scored).items():
            paths.append(folder / f"{task}.eval")
            write(log, str(paths[-1]))
    return paths


def inspect_logs(results: Results, system: System, scored: Sequence[Scored]) -> dict[str, Any]:
    """Return by task an ``inspect_ai.log.EvalLog``, made through inspect_ai's public models only.

    A sample is an item, an epoch one of its replies; scores are the task's metrics, 1 or 0, and NaN (inspect's
    value of what is not scored) where the judge could not tell. Rates and their intervals are those of the run:
    clustered by request, with the request's id in each sample's metadata under :data:`CLUSTER`.

    Raises:
        UsageError: inspect_ai is not installed.
    """
    tasks: dict[str, list[Scored]] = {}
    for entry in scored:
        tasks.setdefault(entry.item.task, []).append(entry)
    return {task: _log(task, entries, results, system) for task, entries in tasks.items()}


def _log(task: str, entries: Sequence[Scored], results: Results, system: System) -> Any:
    log = _inspect("log")
    meta = results["meta"]
    created = meta.get("created") or _NEVER
    asked = [row for row in system["rates"] if row["task"] == task and row["category"] == ALL]
    samples = [
        _sample(entry, number, results, system, asked)
        for entry in entries
        for number in range(1, len(entry.completions) + 1)
    ]
    key = content_key(task, system["name"], created, [entry.item.key for entry in entries])
    return log.EvalLog(
        status="success",
        eval=log.EvalSpec(
            created=created,
            eval_id=key[:22],
            run_id=content_key(system["name"], created)[:22],
            task_id=key[-22:],
            task=f"toxoid/{task}",
            task_display_name=task_spec(task).title,
            task_description=task_spec(task).description,
            dataset=log.EvalDataset(
                name=task_spec(task).data,
                samples=len(entries),
                sample_ids=[_clean(item_id(entry.item)) for entry in entries],
            ),
            model=_model(results, system),
            config=log.EvalConfig(epochs=max((len(entry.completions) for entry in entries), default=1)),
            packages={"toxoid": meta.get("toxoid_version", "")},
            scorers=[_scorer(row["metric"]) for row in asked],
            metadata={"run": meta.get("name", ""), "system": system["name"], "seed": meta.get("seed")},
        ),
        results=log.EvalResults(
            total_samples=len(samples), completed_samples=len(samples), scores=[_score(row) for row in asked]
        ),
        stats=log.EvalStats(started_at=created, completed_at=created),
        samples=samples,
    )


def _sample(entry: Scored, number: int, results: Results, system: System, rates: Sequence[RateRow]) -> Any:
    log, model = _inspect("log"), _inspect("model")
    item, done = entry.item, entry.completions[number - 1]
    asked = list(_messages(entry))
    reply = model.ChatMessageAssistant(content=_clean(item.prefill + done.text), source="generate")
    return log.EvalSample(
        id=_clean(item_id(item)),
        epoch=number,
        input=asked,
        target="",
        messages=[*asked, reply],
        output=_output(done, reply, _model(results, system)),
        scores=dict(_scores(entry, number - 1, rates)),
        metadata={
            CLUSTER: _clean(item.request.id),
            "category": _clean(item.stratum),
            "kind": item.request.kind,
            "attack": item.attack,
            "prefill": _clean(item.prefill),
        },
        uuid=content_key(system["name"], item.key, number)[:22],
    )


def _model(results: Results, system: System) -> str:
    """Return what the log calls the model; of a local folder only the name is told."""
    return f"toxoid/{_clean(base_name(results['meta'].get('model', '')))}/{system['name']}"


def _messages(entry: Scored) -> Iterator[Any]:
    model = _inspect("model")
    kinds = {
        "system": model.ChatMessageSystem,
        "user": model.ChatMessageUser,
        "assistant": model.ChatMessageAssistant,
    }
    for message in entry.item.conversation:
        yield kinds[message.role](content=_clean(message.content))


def _output(done: Completion, reply: Any, name: str) -> Any:
    model = _inspect("model")
    choice = model.ChatCompletionChoice(
        message=reply, stop_reason=_STOP.get(done.finish_reason, done.finish_reason)
    )
    usage = model.ModelUsage(
        input_tokens=done.prompt_tokens,
        output_tokens=done.completion_tokens,
        total_tokens=done.prompt_tokens + done.completion_tokens,
    )
    return model.ModelOutput(model=name, choices=[choice], usage=usage)


def _scores(entry: Scored, index: int, asked: Sequence[RateRow]) -> Iterator[tuple[str, Any]]:
    """Yield a reply's scores by metric, for the metrics that the run reports."""
    make = _inspect("scorer").Score
    reported = {row["metric"] for row in asked}
    for metric in task_spec(entry.item.task).metrics:
        values = clusters([entry], entry.item.task, metric).get(ALL, {}).get(entry.item.request.id)
        if metric.name in reported and values:
            told = {"explanation": _clean(entry.verdicts[metric.aspect][index].reason)}
            value = values[index]
            yield metric.name, make.unscored(**told) if value is None else make(value=value, **told)


def _scorer(metric: str) -> dict[str, Any]:
    """Return how inspect is to compute a metric again; its models of this are not public, their fields are."""
    clustered = {"name": "inspect_ai/stderr", "options": {"cluster": CLUSTER}}
    return {"name": metric, "metrics": [{"name": "inspect_ai/mean"}, clustered]}


def _score(row: RateRow) -> Any:
    """Return a rate as inspect's score; its interval stands beside it."""
    log = _inspect("log")
    values = {"mean": row["rate"], "ci_low": row["ci_low"], "ci_high": row["ci_high"]}
    return log.EvalScore(
        name=row["metric"],
        scorer=row["metric"],
        scored_samples=row["n_replies"] - row["unscored"],
        unscored_samples=row["unscored"],
        metrics={
            name: log.EvalMetric(name=name, value=value)
            for name, value in values.items()
            if value is not None
        },
    )


def _clean(text: str) -> str:
    """Return text that UTF-8 can hold: lone surrogates, which an endpoint may send, as their escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _inspect(name: str) -> Any:
    """Return one of inspect_ai's public modules.

    Raises:
        UsageError: inspect_ai is not installed.
    """
    try:
        return import_module(f"inspect_ai.{name}")
    except ImportError as error:
        raise UsageError(
            "logs of inspect_ai need inspect_ai, which is not installed: pip install 'toxoid[inspect]'"
        ) from error
