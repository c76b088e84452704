"""Runs items through an engine and its replies through the judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toxoid.audit.items import Drawing, Item
from toxoid.audit.tasks import task_spec
from toxoid.data.schemas import Exchange
from toxoid.engines.base import Completion, Engine
from toxoid.judges.base import Aspect, Judge, Outcome, Verdict
from toxoid.progress import SILENT, Progress


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
) -> list[Scored]:
    """Generate the replies of every item and judge them on every aspect that their task's metrics read.

    ``drawings`` says by task how many replies an item gets and how they are drawn. A reply that the engine
    could not give is unscored without being judged. An aspect for which ``judges`` has no judge is left out;
    the metrics that need it are then not reported.
    """
    requests = [item.generation(drawings[item.task], seed) for item in items]
    with progress.task(f"{name}: replies", len(requests), "items") as task:
        completions = engine.generate(requests, on_done=lambda index, done: task.advance())
    verdicts = _judge_all(judges, items, completions, progress, name)
    return [
        Scored(item, tuple(done), found)
        for item, done, found in zip(items, completions, verdicts, strict=True)
    ]


def _judge_all(
    judges: Mapping[Aspect, Judge],
    items: Sequence[Item],
    completions: Sequence[Sequence[Completion]],
    progress: Progress,
    name: str,
) -> list[dict[Aspect, tuple[Verdict, ...]]]:
    """Judge aspect by aspect, so that a judge sees all its texts in one call."""
    wanted: dict[Aspect, list[int]] = {}
    for index, item in enumerate(items):
        for aspect in dict.fromkeys(a for metric in task_spec(item.task).metrics for a in metric.aspects):
            if aspect in judges:
                wanted.setdefault(aspect, []).append(index)
    found: list[dict[Aspect, tuple[Verdict, ...]]] = [{} for _ in items]
    with progress.task(f"{name}: verdicts", sum(map(len, wanted.values())), "items") as task:
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
    trigger = f" {item.cut.trigger}" if item.cut and item.cut.trigger else ""
    return Exchange(
        request=item.request,
        conversation=item.conversation,
        completion=trigger + completion.text,
        prefill=item.prefill.removesuffix(trigger),
        truncated=completion.finish_reason == "length",
    )
