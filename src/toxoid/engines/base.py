"""The contract of everything that turns a conversation into a completion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from toxoid.data.schemas import Conversation

FinishReason: TypeAlias = Literal["stop", "length", "content_filter"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. ``temperature`` 0 is greedy; ``top_p`` 1 keeps the whole distribution."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 128
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """``n`` independent continuations of one conversation.

    Args:
        conversation: Closed turns; the last one is the user's.
        prefill: The beginning of a still-open assistant turn, to be continued; not part of the completion.
        sampling: How to draw.
        n: Number of completions.
        seed: Completion ``i`` depends on ``(seed, i)`` only, never on what else is in the batch.
    """

    conversation: Conversation
    prefill: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """One continuation. ``text`` excludes the prefill and every special token."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    metadata: Mapping[str, Any] = field(default_factory=dict)


OnDone: TypeAlias = Callable[[int, list[Completion]], None]
"""Called with (index of the request, its completions) as soon as a request is finished."""


class Engine(Protocol):
    """A model that can be asked.

    Attributes:
        name: What people call it.
        granule: Requests are processed in consecutive groups of this many, counted from the first of a
            call; what comes out depends on nothing outside a group, to the last bit. Caches and resumed
            runs work in whole groups. 1 where requests are independent of each other.
    """

    name: str
    granule: int

    def identity(self) -> dict[str, Any]:
        """Return what the output depends on (weights' hash or endpoint and model name, template, dtype).

        JSON values only. It enters the cache key of every generation and the fingerprint of a run.
        """

    def close(self) -> None:
        """Let go of connections and threads, if there are any; the engine is not used afterwards."""

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Return ``n`` completions per request, in the order of ``requests``."""
