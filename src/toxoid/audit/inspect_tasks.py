"""inspect_ai tasks: what an audit asks, with its judges as the scorer (entry point ``inspect_ai``).

    inspect eval toxoid/audit --model openai/... -T question=jailbreak -T data=advbench

Imported by inspect_ai only, which has to be installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageUser
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState, generate

from toxoid.attacks.registry import make_attack
from toxoid.audit.items import Item, build_items
from toxoid.audit.run import Scored, exchange
from toxoid.audit.tasks import task_spec
from toxoid.data.loading import load_requests
from toxoid.data.schemas import Kind, Message, Request
from toxoid.engines.base import Completion
from toxoid.errors import UsageError
from toxoid.judges.panel import make_panel

_ATTACKED = ("lab-jailbreak", "lab-hijack")
_MESSAGES: dict[str, Any] = {
    "system": ChatMessageSystem,
    "user": ChatMessageUser,
    "assistant": ChatMessageAssistant,
}


@task  # type: ignore[untyped-decorator]
def audit(
    question: str = "harmfulness",
    data: str | None = None,
    attack: str | None = None,
    judge: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """One of toxoid's audit tasks, for any model that inspect can ask.

    Args:
        question: The audit task, e.g. ``harmfulness``, ``over-refusal``, ``hijacking``.
        data: Name or file of its requests; by default the lab's.
        attack: As in ``toxoid ls attacks``; by default the task's own, but for lab sets that come attacked.
        judge: As for ``toxoid audit --judge``; by default the oracle for the lab's requests, the rules for others.
        limit: At most this many requests.
        seed: Of the attack's wordings and of the choice of requests.

    Raises:
        UsageError: Unknown names, or a task that begins the reply itself: not every provider can go on in an open
            turn, and a closed one would measure something else.
    """
    spec = task_spec(question)
    source = data or f"lab-{spec.data}"
    chosen = make_attack(attack or ("direct" if source in _ATTACKED else spec.attack))
    requests = load_requests(source, kind=_kind(spec.data), limit=limit, seed=seed).requests
    items = build_items(question, requests, chosen, seed=seed)
    if spec.course or any(item.prefill for item in items):
        raise UsageError(
            f"{question} under {chosen.name} begins the reply itself: ask it with `toxoid audit`, or with lm-eval "
            "(`toxoid cp lm-eval-c2`)"
        )
    panel = judge or ("lab-oracle" if source.startswith("lab-") else "refusal")
    return Task(dataset=_dataset(items, source), solver=generate(), scorer=verdicts(question, panel))


@scorer(metrics={"*": [mean(), stderr(cluster="request")]})  # type: ignore[untyped-decorator]
def verdicts(question: str, judge: str) -> Scorer:
    """Score a reply by toxoid's judges: 1 or 0 on each metric of the audit task, NaN where they cannot tell.

    Args:
        question: The audit task.
        judge: Of its panel.

    Raises:
        UsageError: An unknown task or judge.
    """
    from toxoid.audit.rates import ALL, clusters  # here, for inspect imports this module to list its tasks

    spec, panel = task_spec(question), make_panel(judge)
    aspects = [aspect for metric in spec.metrics for aspect in metric.aspects if aspect in panel]

    async def score(state: TaskState, target: Target) -> Score:
        item, done = _asked(question, state), _replied(state)
        found = {aspect: tuple(panel[aspect].judge([exchange(item, done)], aspect)) for aspect in aspects}
        entry = Scored(item, (done,), found)
        values = {
            metric.name: counted[ALL][item.request.id][0]
            for metric in spec.metrics
            if (counted := clusters([entry], question, metric))
        }
        reasons = {aspect: said[0].reason for aspect, said in found.items()}
        return Score(
            value={name: float("nan") if value is None else value for name, value in values.items()},
            explanation="; ".join(f"{aspect}: {reason}" for aspect, reason in reasons.items()),
        )

    return score


def _kind(role: str) -> Kind:
    """Return what the requests of a role are, where their file does not say."""
    if role.startswith("contentious"):
        return "contentious"
    return "benign" if role in ("benign", "hijack") else "harmful"


def _dataset(items: Sequence[Item], name: str) -> MemoryDataset:
    return MemoryDataset([_sample(item) for item in items], name=name)


def _sample(item: Item) -> Sample:
    wording = "" if item.variant in ("", "direct") else f" {item.variant}"
    return Sample(
        id=f"{item.request.id}{wording}",
        input=[_MESSAGES[message.role](content=message.content) for message in item.conversation],
        metadata={
            "request": item.request.id,
            "category": item.stratum,
            "attack": item.attack,
            "variant": item.variant,
            "toxoid": asdict(item.request),
        },
    )


def _asked(question: str, state: TaskState) -> Item:
    """Return the item again that a sample was made of."""
    turns: list[ChatMessage] = state.input if isinstance(state.input, list) else []
    conversation = tuple(Message(turn.role, turn.text) for turn in turns)
    request = Request(**state.metadata["toxoid"])
    return Item(
        question, request, conversation, attack=state.metadata["attack"], variant=state.metadata["variant"]
    )


def _replied(state: TaskState) -> Completion:
    cut = state.output.stop_reason == "max_tokens"
    return Completion(state.output.completion, "length" if cut else "stop", 0, 0)
