"""The contract of treatments that train: a model and requests in, training examples out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from toxoid.data.schemas import Conversation, Request
from toxoid.engines.base import Completion, Engine, GenerationRequest, Sampling
from toxoid.judges.base import Aspect, Judge
from toxoid.progress import Progress, SilentProgress
from toxoid.training.examples import Example
from toxoid.training.preference.examples import PreferenceExample
from toxoid.training.preference.settings import Objective
from toxoid.training.rlhf.settings import Pair, RLHFObjective
from toxoid.training.soft_prompts.settings import Anchors, Form, PromptObjective

if TYPE_CHECKING:
    from toxoid.engines.contrast import Contrast
    from toxoid.engines.loading import LoadedModel
    from toxoid.engines.soft_prompt import Placement


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
        other: Another model to ask, if an option names one.
        teacher: The model under the shield that the treatment is to replace, if it is to replace one.
    """

    engine: Engine
    judges: Mapping[Aspect, Judge]
    harmful: Sequence[Request]
    benign: Sequence[Request]
    options: Mapping[str, Any] = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    progress: Progress = field(default_factory=SilentProgress)
    other: Engine | None = None
    teacher: Engine | None = None

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
class OppositePrompts:
    """What two opposite soft prompts begin from and learn, and how they will be used.

    Args:
        anchors: The replies to learn from; :attr:`TrainingSet.examples` holds them too, with their set as source.
        objective: The losses.
        safe_text: The manual prompt that SP begins from.
        opposite_text: The one that AP begins from.
        placement: Where the prompts stand.
        contrast: How they are meant to be used.
        tokens: Their length; ``None`` for the longer manual prompt's.
    """

    anchors: Anchors
    objective: PromptObjective
    safe_text: str
    opposite_text: str
    placement: Placement
    contrast: Contrast
    tokens: int | None = None


@dataclass(frozen=True)
class RewardData:
    """What a reward model learns, what a policy is rewarded on, and how."""

    pairs: tuple[Pair, ...]
    prompts: tuple[Conversation, ...]
    objective: RLHFObjective


@dataclass(frozen=True)
class Student:
    """What a shield is distilled into: see :class:`toxoid.training.soft_prompts.settings.DistilConfig`."""

    form: Form
    modules: tuple[str, ...] | None = None


@dataclass(frozen=True)
class TrainingSet:
    """Examples to train on, and what became of everything that was made on the way to them.

    Args:
        examples: Replies to imitate; beside preferences they are the anchors, which hold the model where it is.
        counts: What was made, kept and dropped.
        preferences: Ranked groups, for a method that learns from them.
        prompts: For a method that trains prompts and not weights.
        reward: For a method that trains a reward model and a policy.
        student: For a method whose examples are a shielded model's replies, to have its distributions.
        files: JSON documents by file name, written into the artefact's folder whether or not something is trained.
    """

    examples: tuple[Example, ...]
    counts: Mapping[str, int]
    preferences: Preferences | None = None
    prompts: OppositePrompts | None = None
    reward: RewardData | None = None
    student: Student | None = None
    files: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        """Whether there is anything to train on."""
        return bool(self.examples or self.preferences or self.prompts or self.reward)

    def by_source(self) -> dict[str, int]:
        """Return how many examples come from each source."""
        found = dict(Counter(example.source for example in self.examples))
        if self.prompts:
            return found
        if self.reward:
            kinds = Counter(f"pairs-{pair.kind}" for pair in self.reward.pairs)
            return {**kinds, "prompts": len(self.reward.prompts), **found}
        return {"groups": len(self.preferences.examples), **found} if self.preferences else found


@dataclass(frozen=True)
class System:
    """A treated model that is to be asked.

    Args:
        load: Load the model with the treatment's weights, if it left any: an adapter merged in, or a model of its own.
        load_untreated: Load the model as it was.
        artifact: What the treatment left; an empty or missing folder if it left nothing.
        options: The arm's options.
        decoding: What the arm says of its decoding, see :func:`toxoid.engines.contexts.chosen`; the rest is the
            treatment's.
    """

    load: Callable[[], LoadedModel]
    load_untreated: Callable[[], LoadedModel]
    artifact: Path
    options: Mapping[str, Any]
    decoding: Mapping[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """A treatment."""

    name: str

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make the training set.

        A training set that :attr:`TrainingSet.trains` nothing is a treatment without training: see
        :meth:`engine`.

        Raises:
            UsageError: An option is wrong, or nothing is left to train on.
        """

    def engine(self, system: System) -> Engine:
        """Return the engine that asks the treated model, as this treatment wants it asked."""


class WeightsMethod:
    """Base of the treatments whose effect is all in the weights."""

    def engine(self, system: System) -> Engine:
        """Ask the trained model; with a contrast of manual prompts, if the arm says so."""
        from toxoid.engines.contexts import chosen, prompted_engine

        return prompted_engine(system.load(), chosen(system.decoding))


def _seed(seed: int, *parts: str) -> int:
    digest = hashlib.sha256("/".join([str(seed), *parts]).encode()).digest()
    return int.from_bytes(digest[:6], "big")
