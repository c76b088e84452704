"""The nouns that travel through toxoid: messages, requests, exchanges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant"]
Kind: TypeAlias = Literal["harmful", "benign", "contentious"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


Conversation: TypeAlias = tuple[Message, ...]
"""Closed turns, the last one normally the user's. An open assistant turn travels beside it as ``prefill``."""


@dataclass(frozen=True, slots=True)
class Request:
    """One thing a user asks for; the unit over which intervals are clustered.

    Args:
        id: Unique and stable within its data set, e.g. ``"advbench/17"``.
        prompt: What the user says.
        kind: ``harmful`` (should not be fulfilled), ``benign`` (should), or ``contentious``
            (sounds harmful, is not, and should be fulfilled).
        category: Harm category or topic; ``"all"`` where the source has none.
        target: The beginning of, or a whole, harmful reply; ``None`` where the source has none.
        reference: A good reply, used for training; ``None`` where the source has none.
        metadata: Whatever else the source says (JSON values only).
    """

    id: str
    prompt: str
    kind: Kind = "harmful"
    category: str = "all"
    target: str | None = None
    reference: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a judge sees: the request, the conversation sent, and the reply (``prefill`` + ``completion``)."""

    request: Request
    conversation: Conversation
    completion: str
    prefill: str = ""
    truncated: bool = False

    @property
    def reply(self) -> str:
        """The whole assistant turn as a reader would see it."""
        return self.prefill + self.completion


def user(content: str, system: str | None = None) -> Conversation:
    """Return a conversation of one user message, after a system message if one is given."""
    head = (Message("system", system),) if system else ()
    return (*head, Message("user", content))


def as_dicts(conversation: Sequence[Message]) -> list[dict[str, str]]:
    """Return the conversation in the ``messages`` layout that chat templates and HTTP APIs take."""
    return [{"role": message.role, "content": message.content} for message in conversation]
