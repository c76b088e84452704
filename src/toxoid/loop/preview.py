"""What a run will cost, told before it starts: replies, tokens, verdicts, time and money."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from toxoid.audit.items import Item
from toxoid.audit.tasks import CAMPAIGNS, PLAYED, task_spec
from toxoid.config.recipe import BASE, BudgetSection, Recipe
from toxoid.engines.base import Engine, GenerationRequest
from toxoid.engines.metered import PromptTokens, Usage, most
from toxoid.judges.panel import Panel
from toxoid.loop.requests import drawings

_SAMPLES = (4, 16, 64)
_ENOUGH_SECONDS = 5.0
"""A pace is measured on as few items as take this long."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The most that the audits of a run can take.

    Args:
        requests: What is asked of the base, item by item, as far as that is known.
        questions: How many questions are asked of each system, campaigns aside.
        campaigns: How many campaigns each system is played against.
        tasks: By task, what all systems together take.
        verdicts: By judge, how many verdicts all systems together need.
        systems: The systems that are audited.
        exact: Whether prompts were counted by the model's own tokenizer.
    """

    requests: tuple[GenerationRequest, ...]
    questions: int
    campaigns: int
    tasks: dict[str, Usage]
    verdicts: dict[str, int]
    systems: tuple[str, ...]
    exact: bool

    @property
    def total(self) -> Usage:
        """All tasks together."""
        whole = Usage()
        for usage in self.tasks.values():
            whole = whole.plus(usage)
        return whole


def plan(
    recipe: Recipe,
    items: Sequence[Item],
    panel: Panel,
    prompt_tokens: PromptTokens,
    *,
    exact: bool,
    coming: Sequence[Item] = (),
) -> Plan:
    """Return the most that the audits of ``recipe`` can take; what its treatments generate is not counted.

    ``coming`` are the items of interactive attacks. How long their questions will be nobody knows beforehand: they are
    counted as long as the longest question that is known, and campaigns with all that their budget allows.
    """
    drawn = drawings(recipe)
    requests = tuple(item.generation(drawn[item.task], recipe.seed) for item in items or coming)
    known = [*items, *coming]
    longest = (
        max((prompt_tokens(item.conversation, item.prefill) for item in known), default=0) if coming else 0
    )
    systems = {BASE: None, **{arm.name: arm.tasks for arm in recipe.arms}}
    verdicts: Counter[str] = Counter()
    tasks: dict[str, Usage] = {}
    for task in recipe.audit.tasks:
        asked = [item.generation(drawn[task], recipe.seed) for item in items if item.task == task]
        audited = sum(only is None or task in only for only in systems.values())
        one = _played(recipe, task, coming, longest) if task in PLAYED else most(asked, prompt_tokens)
        tasks[task] = Usage(audited * one.replies, audited * one.prompt_tokens, audited * one.reply_tokens)
        for aspect in dict.fromkeys(
            aspect for metric in task_spec(task).metrics for aspect in metric.aspects
        ):
            if aspect in panel:
                verdicts[panel[aspect].name] += tasks[task].replies
    played = sum(item.task == CAMPAIGNS for item in coming)
    asked_once = len(known) - played
    return Plan(requests, asked_once, played, tasks, dict(verdicts), tuple(systems), exact)


def _played(recipe: Recipe, task: str, coming: Sequence[Item], longest: int) -> Usage:
    each = recipe.audit.campaigns.queries if task == CAMPAIGNS else recipe.audit.samples
    replies = each * sum(item.task == task for item in coming)
    return Usage(replies, replies * longest, replies * recipe.audit.sampling.max_tokens)


def plan_lines(given: Plan, budget: BudgetSection) -> list[str]:
    """Return the plan in words, with the money if there are prices."""
    total = given.total
    audited = f" of {len(given.systems)} systems" if len(given.systems) > 1 else ""
    verdicts = ", ".join(f"{count:,} by {name}" for name, count in given.verdicts.items()) or "none"
    how = "" if given.exact else " (each byte counted as one; expect about a quarter)"
    questions = [f"to {given.questions:,} questions"] if given.questions else []
    campaigns = [f"in {given.campaigns:,} campaigns"] if given.campaigns else []
    where = " and ".join([*questions, *campaigns])
    found = [
        f"requests: {total.replies:,} replies{audited} {where}; verdicts: {verdicts}",
        f"tokens, at most: {total.prompt_tokens:,} read{how}, {total.reply_tokens:,} written",
    ]
    if budget.price_in is not None and budget.price_out is not None:
        money = (total.prompt_tokens * budget.price_in + total.reply_tokens * budget.price_out) / 1e6
        found.append(f"price, at most: {money:,.2f} for the audited model, without its judges")
    return found


def task_lines(given: Plan) -> list[str]:
    """Return a line per task."""
    return [
        f"  {task}: {usage.replies:,} replies, {usage.prompt_tokens:,} tokens read, {usage.reply_tokens:,} written"
        for task, usage in given.tasks.items()
    ]


def pace_line(taken: Usage, total: Usage) -> str:
    """Return how long a run will take at the pace of what was answered already.

    Args:
        taken: By the first replies.
        total: By all of them; its replies are read.
    """
    seconds = taken.seconds * total.replies / taken.replies
    speed = taken.reply_tokens / max(taken.seconds, 1e-9)
    length = f"{seconds / 60:,.0f} minutes" if seconds >= 90 else f"{max(1.0, seconds):.0f} seconds"
    return (
        f"time: about {length} for the replies ({taken.replies:,} took {taken.seconds:.1f} s: "
        f"{speed:,.0f} tokens/s written), verdicts and treatments aside"
    )


def measured_pace(engine: Engine, requests: Sequence[GenerationRequest]) -> Usage:
    """Ask a few questions, spread over all of them, and return what they took; nothing is kept."""
    for count in _SAMPLES:
        some = requests[:: max(1, len(requests) // count)][:count]
        started = time.monotonic()
        answers = [done for found in engine.generate(some) for done in found]
        seconds = time.monotonic() - started
        if seconds >= _ENOUGH_SECONDS or len(some) == len(requests):
            break
    return Usage(
        len(answers),
        sum(done.prompt_tokens for done in answers),
        sum(done.completion_tokens for done in answers),
        seconds,
    )
