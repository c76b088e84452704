"""Runs items through an engine and its replies through the judges, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from toxoid.audit.items import Drawing, Item
from toxoid.audit.tasks import task_spec
from toxoid.data.schemas import Exchange
from toxoid.engines.base import Completion, Engine
from toxoid.judges.base import Aspect, Judge, Outcome, Verdict
from toxoid.progress import SILENT, Progress, Task

PART = 2048
"""Items held at once, at least: enough to keep an engine and its judges busy, few enough to be forgotten."""


@dataclass(frozen=True, slots=True)
class Scored:
    """An item with its replies and, by aspect, one verdict per reply."""

    item: Item
    completions: tuple[Completion, ...]
    verdicts: Mapping[Aspect, tuple[Verdict, ...]]


def run_audit(
    engine: Engine,
    judges: Mapping[Aspect, Judge],
    items: Sequence[Item],
    *,
    drawings: Mapping[str, Drawing],
    seed: int,
    progress: Progress = SILENT,
    name: str = "audit",
) -> Iterator[Scored]:
    """Yield every item, in order, with its replies, judged on every aspect that its task's metrics read.

    Items are asked and judged part by part, in whole granules of the engine, so that memory does not grow with their
    number and replies are the same as in one call. ``drawings`` says by task how many replies an item gets and how they
    are drawn. A reply that the engine could not give is unscored without being judged. An aspect for which ``judges``
    has no judge is left out; the metrics that need it are then not reported.
    """
    aspects = {task: _aspects(task, judges) for task in dict.fromkeys(item.task for item in items)}
    verdicts = sum(len(aspects[item.task]) for item in items)
    size = -(-PART // engine.granule) * engine.granule
    with (
        progress.task(f"{name}: replies", len(items), "items") as replying,
        progress.task(f"{name}: verdicts", verdicts, "items") as judging,
    ):
        for start in range(0, len(items), size):
            part = items[start : start + size]
            requests = [item.generation(drawings[item.task], seed) for item in part]
            completions = engine.generate(requests, on_done=lambda index, done: replying.advance())
            found = _judged(judges, part, completions, aspects, judging)
            for item, done, verdict in zip(part, completions, found, strict=True):
                yield Scored(item, tuple(done), verdict)


def _aspects(task: str, judges: Mapping[Aspect, Judge]) -> list[Aspect]:
    """Return the aspects that the metrics of a task read and that somebody answers."""
    wanted = dict.fromkeys(aspect for metric in task_spec(task).metrics for aspect in metric.aspects)
    return [aspect for aspect in wanted if aspect in judges]


def _judged(
    judges: Mapping[Aspect, Judge],
    items: Sequence[Item],
    completions: Sequence[Sequence[Completion]],
    aspects: Mapping[str, Sequence[Aspect]],
    task: Task,
) -> list[dict[Aspect, tuple[Verdict, ...]]]:
    """Judge aspect by aspect, so that a judge sees all texts of a part in one call."""
    wanted: dict[Aspect, list[int]] = {}
    for index, item in enumerate(items):
        for aspect in aspects[item.task]:
            wanted.setdefault(aspect, []).append(index)
    found: list[dict[Aspect, tuple[Verdict, ...]]] = [{} for _ in items]
    for aspect, indices in wanted.items():
        missing = {i: [missing_verdict(done) for done in completions[i]] for i in indices}
        exchanges = [
            exchange(items[i], done)
            for i in indices
            for done, lacks in zip(completions[i], missing[i], strict=True)
            if lacks is None
        ]
        verdicts = iter(judges[aspect].judge(exchanges, aspect))
        for i in indices:
            found[i][aspect] = tuple(lacks or next(verdicts) for lacks in missing[i])
        task.advance(len(indices))
    return found


def missing_verdict(completion: Completion) -> Verdict | None:
    """Return the verdict on a reply that is none: the server blocked it, or could not take the request."""
    error = completion.metadata.get("error")
    if error is None and completion.finish_reason == "content_filter" and not completion.text.strip():
        error = "blocked by a content filter"
    return None if error is None else Verdict(Outcome.UNSCORED, reason=f"no reply: {error}")


def exchange(item: Item, completion: Completion) -> Exchange:
    """Return what a judge sees of one reply.

    A turn at the end of the prefill is shown as the reply's beginning: what has to be judged is whether the
    model, so begun, gives more of the harm.
    """
    trigger = shown_before(item)
    return Exchange(
        request=item.request,
        conversation=item.conversation,
        completion=trigger + completion.text,
        prefill=item.prefill.removesuffix(trigger),
        truncated=completion.finish_reason == "length",
    )


def shown_before(item: Item) -> str:
    """Return what a judge sees as the beginning of each reply: the turn at the end of the prefill, if there is one."""
    return f" {item.cut.trigger}" if item.cut and item.cut.trigger else ""
