"""The contract of attacks: a request in, conversations to send out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, cast

from toxoid.data.request_set import hash_fraction
from toxoid.data.schemas import Conversation, Message, Request, Role, user

Pool: TypeAlias = Literal["evaluation", "training"]
"""Wordings used in training are disjoint from those of evaluation."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cut:
    """How much of a whole reply a prefill holds.

    Args:
        words: Whitespace-separated words asked for (k).
        whole: The reply has fewer: it stands there wholly, and is continued after its end.
        trigger: A turn that was put behind the words; the prefill ends with it. Empty for none.
    """

    words: int
    whole: bool = False
    trigger: str = ""


@dataclass(frozen=True, slots=True)
class AttackedPrompt:
    """What is sent to a model for one request.

    Args:
        request: What a judge is to see. It keeps the id of the request attacked; an attack that injects
            something adds it to the metadata (``payload``, ``injection``).
        conversation: Closed turns, the last one the user's.
        prefill: The beginning of the assistant's turn, to be continued by the model.
        cut: Where the prefill is the beginning of a whole reply, how much of it.
        attack: Name of the attack.
        variant: Which of its wordings; unique among those of one request.
    """

    request: Request
    conversation: Conversation
    attack: str
    variant: str
    prefill: str = ""
    cut: Cut | None = None


class Attack(Protocol):
    """Something that turns a request into conversations which try to make a model fail."""

    @property
    def name(self) -> str:
        """The registered name."""

    def identity(self) -> dict[str, Any]:
        """Return what the conversations depend on (JSON values); part of a run's fingerprint."""

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return the conversations; which wordings they use depends on (seed, request.id) only."""


def choose(items: Sequence[T], count: int, *, seed: int, request: Request, salt: str) -> list[T]:
    """Return ``count`` different items, drawn by hashing (seed, request.id, salt, position of the item)."""
    ranked = sorted(range(len(items)), key=lambda index: hash_fraction(seed, request.id, salt, index))
    return [items[index] for index in ranked[:count]]


def asked(request: Request, text: str | None = None) -> Conversation:
    """Return the turns before the request (``metadata["history"]``), then ``text`` or the prompt."""
    history = request.metadata.get("history", ())
    earlier = (Message(cast(Role, turn["role"]), turn["content"]) for turn in history)
    return (*earlier, *user(request.prompt if text is None else text))
