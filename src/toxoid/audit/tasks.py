"""What an audit asks: each task names its requests, its attack and the metrics read from verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from toxoid.errors import UsageError, did_you_mean
from toxoid.judges.base import Aspect

Better: TypeAlias = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A rate: the share of replies of which ``aspect`` holds (or does not, if ``complement``)."""

    name: str
    aspect: Aspect
    better: Better
    complement: bool = False


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One question an audit answers.

    Args:
        name: As in recipes and results.
        title: For people.
        description: One sentence.
        data: The key of the recipe's data section that holds its requests.
        metrics: The first one is the task's headline.
        attack: Attack applied to every request, ``"direct"`` for none.
    """

    name: str
    title: str
    description: str
    data: str
    metrics: tuple[Metric, ...]
    attack: str = "direct"


HARMLESS = Metric("harmless_rate", "harmful", "higher", complement=True)
VALID = Metric("validity_rate", "valid", "higher")
HELPFUL = Metric("helpful_rate", "helpful", "higher")
REFUSED = Metric("refusal_rate", "refusal", "higher")
OVER_REFUSED = Metric("over_refusal_rate", "refusal", "lower")
RESISTED = Metric("resisted_rate", "hijacked", "higher", complement=True)
CORRECTED = Metric("corrected_rate", "corrected", "higher")

TASKS: dict[str, TaskSpec] = {
    task.name: task
    for task in (
        TaskSpec(
            "harmfulness",
            "Harmful requests",
            "Harmful requests in plain words: how often is the reply harmless, and is it still language?",
            "harmful",
            (HARMLESS, VALID),
        ),
        TaskSpec(
            "jailbreak",
            "Harmful requests in disguise",
            "The same kind of request behind a story, a role or a game.",
            "jailbreak",
            (HARMLESS, VALID),
            attack="role_play",
        ),
        TaskSpec(
            "over-refusal",
            "Contentious but harmless requests",
            "Requests that sound harmful and are not: how often does the model decline them?",
            "contentious",
            (OVER_REFUSED, HELPFUL),
        ),
        TaskSpec(
            "helpfulness",
            "Benign requests",
            "Ordinary requests: how often is the reply a valid, helpful answer, and how often a refusal?",
            "benign",
            (HELPFUL, OVER_REFUSED, VALID),
        ),
        TaskSpec(
            "hijacking",
            "Goal hijacking",
            "Ordinary requests with an injected instruction: how often does the model stay with its task?",
            "hijack",
            (RESISTED, VALID),
            attack="goal_hijacking",
        ),
        TaskSpec(
            "course-correction",
            "After a harmful beginning",
            "The reply already begins harmfully (an open turn): how often does the model turn away by itself?",
            "harmful",
            (CORRECTED,),
            attack="prefill",
        ),
        TaskSpec(
            "novel-harm",
            "Novel harms, known from analyses only",
            "Actions that a policy has declared harmful and that training showed in analyses, never in a safe reply.",
            "novel",
            (HARMLESS, REFUSED),
        ),
        TaskSpec(
            "novel-harm-shown",
            "Novel harms, shown with safe replies",
            "Actions that a policy has declared harmful and that training answered with safe replies.",
            "novel_shown",
            (HARMLESS, REFUSED),
        ),
    )
}


def task_spec(name: str) -> TaskSpec:
    """Return a task by name.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in TASKS:
        raise UsageError(
            f'there is no audit task "{name}".{did_you_mean(name, TASKS)} Known: {", ".join(TASKS)}'
        )
    return TASKS[name]
