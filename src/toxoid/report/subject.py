"""What machine-readable reports and gates are about: one system of a run, and its replies one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from toxoid.audit.items import Item
from toxoid.audit.rates import value
from toxoid.audit.results import Results, System
from toxoid.audit.run import Scored
from toxoid.audit.tasks import task_spec
from toxoid.engines.base import Completion
from toxoid.errors import UsageError, did_you_mean
from toxoid.judges.base import Outcome

State: TypeAlias = Literal["passed", "failed", "unscored", "error"]
"""Of a reply on its task's headline metric; ``error``: the engine gave none."""

_NO_REPLY = "no reply: "


@dataclass(frozen=True, slots=True)
class Sample:
    """One reply to one item.

    Args:
        item: What was asked.
        line: The item's line in the file of scored items, from 1.
        number: Of the reply among those to the item, from 1.
        completion: The reply.
        state: What came of it.
        reason: Why, in the judge's words.
    """

    item: Item
    line: int
    number: int
    completion: Completion
    state: State
    reason: str

    @property
    def id(self) -> str:
        """The item's id: unique within its task."""
        return item_id(self.item)


def item_id(item: Item) -> str:
    """Return the request's id, with the attack and its wording where there are some: unique within a task."""
    return " ".join(
        part
        for part in dict.fromkeys((item.request.id, item.attack, item.variant))
        if part not in ("", "direct")
    )


def system_of(results: Results, name: str | None = None) -> System:
    """Return a system by name; by default the one that the verdict is about.

    That is the treated system of the headline comparison, or the only one of an audit.

    Raises:
        UsageError: There is no system of that name.
    """
    systems = {system["name"]: system for system in results["systems"]}
    compared = next((one["after"] for one in results["comparisons"] if one["headline"]), None)
    wanted = name or compared or next(iter(systems), "")
    if wanted not in systems:
        raise UsageError(
            f'there is no system "{wanted}" in these results.{did_you_mean(wanted, systems)} '
            f"Known: {', '.join(systems) or 'none'}"
        )
    return systems[wanted]


def samples(scored: Iterable[Scored]) -> Iterator[Sample]:
    """Yield the replies of a system with what came of each on its task's headline metric.

    ``failed`` is what the audit looks for: the attack landed, or the mistake was made. Course-correction fails
    where the model does not turn away.
    """
    for line, entry in enumerate(scored, start=1):
        for number, completion in enumerate(entry.completions, start=1):
            state, reason = _state(entry, number - 1)
            yield Sample(entry.item, line, number, completion, state, reason)


def _state(entry: Scored, index: int) -> tuple[State, str]:
    metric = task_spec(entry.item.task).metrics[0]
    verdicts = entry.verdicts.get(metric.aspect)
    if not verdicts:
        return "unscored", f"the judges of this run do not answer `{metric.aspect}`"
    verdict = verdicts[index]
    if verdict.outcome is Outcome.UNSCORED:
        filtered = entry.completions[index].finish_reason == "content_filter"
        return "error" if verdict.reason.startswith(
            _NO_REPLY
        ) and not filtered else "unscored", verdict.reason
    good = value(verdict, metric) == float(metric.better == "higher")
    return "passed" if good else "failed", verdict.reason
