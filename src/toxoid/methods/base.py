"""The contract of treatments that train: a model and requests in, training examples out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from toxoid.data.schemas import Conversation, Request
from toxoid.engines.base import Completion, Engine, GenerationRequest, Sampling
from toxoid.judges.base import Aspect, Judge
from toxoid.progress import Progress, SilentProgress
from toxoid.training.examples import Example
from toxoid.training.preference.examples import PreferenceExample
from toxoid.training.preference.settings import Objective


@dataclass(frozen=True)
class MethodInput:
    """What a method may use to make its training set.

    Args:
        engine: The model to be treated, untreated.
        judges: By aspect; a method that needs one that is missing says so.
        harmful: Requests to learn to decline.
        benign: General data, each with a reference reply: what has to stay as it is.
        options: The arm's options, validated by the method.
        sampling: How the model's own replies are drawn.
        seed: Of everything random.
        progress: Where to report.
    """

    engine: Engine
    judges: Mapping[Aspect, Judge]
    harmful: Sequence[Request]
    benign: Sequence[Request]
    options: Mapping[str, Any] = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    progress: Progress = field(default_factory=SilentProgress)

    def ask(
        self, name: str, questions: Sequence[tuple[str, Conversation, str]], n: int = 1
    ) -> list[list[Completion]]:
        """Ask the model ``(id, conversation, prefill)`` questions; the seed of each depends on ``name`` and id."""
        requests = [
            GenerationRequest(conversation, prefill, self.sampling, n, _seed(self.seed, name, key))
            for key, conversation, prefill in questions
        ]
        with self.progress.task(name, len(requests), "replies") as task:
            return self.engine.generate(requests, on_done=lambda index, done: task.advance())


@dataclass(frozen=True)
class Preferences:
    """Ranked replies to learn from, and by which loss."""

    examples: tuple[PreferenceExample, ...]
    objective: Objective


@dataclass(frozen=True)
class TrainingSet:
    """Examples to train on, and what became of everything that was made on the way to them.

    Args:
        examples: Replies to imitate; beside preferences they are the anchors, which hold the model where it is.
        counts: What was made, kept and dropped.
        preferences: Ranked groups, for a method that learns from them.
    """

    examples: tuple[Example, ...]
    counts: Mapping[str, int]
    preferences: Preferences | None = None

    def by_source(self) -> dict[str, int]:
        """Return how many examples come from each source."""
        found = dict(Counter(example.source for example in self.examples))
        return {"groups": len(self.preferences.examples), **found} if self.preferences else found


class Method(Protocol):
    """A treatment."""

    name: str

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make the training set.

        Raises:
            UsageError: An option is wrong, or nothing is left to train on.
        """


def _seed(seed: int, *parts: str) -> int:
    digest = hashlib.sha256("/".join([str(seed), *parts]).encode()).digest()
    return int.from_bytes(digest[:6], "big")
