"""From conversations to the token sequences a model is asked with: one, or two that are contrasted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from toxoid.data.schemas import Conversation
from toxoid.engines.contrast import UNCONTRASTED, Contrast
from toxoid.engines.guided import with_guidance
from toxoid.engines.prefix_tree import Tokens
from toxoid.engines.soft_prompt import Place
from toxoid.engines.templates import encode


class Context(Protocol):
    """One way to put a conversation before a model."""

    @property
    def prefix(self) -> Tokens:
        """Tokens with which all its sequences begin, worth remembering; empty if there are none."""

    def tokens(self, conversation: Conversation, prefill: str = "") -> Tokens:
        """Return the token ids of a conversation with an open reply, virtual ones included."""


@dataclass(frozen=True)
class Bare:
    """The conversation as it is."""

    tokenizer: Any
    prefix: Tokens = ()

    def tokens(self, conversation: Conversation, prefill: str = "") -> Tokens:
        """See :class:`Context`."""
        return tuple(encode(self.tokenizer, conversation, prefill=prefill))


@dataclass(frozen=True)
class Manual:
    """The conversation under a system prompt, which stands before its own if it has one."""

    tokenizer: Any
    text: str
    prefix: Tokens = ()

    def tokens(self, conversation: Conversation, prefill: str = "") -> Tokens:
        """See :class:`Context`."""
        return tuple(encode(self.tokenizer, with_guidance(conversation, self.text), prefill=prefill))


class Soft:
    """The conversation under a soft prompt, whose tokens have the virtual ids ``ids``."""

    def __init__(self, place: Place, ids: range) -> None:
        self._place = place
        self.prefix: Tokens = (*place.head, *ids)

    def tokens(self, conversation: Conversation, prefill: str = "") -> Tokens:
        """See :class:`Context`."""
        return (*self.prefix, *self._place.rest(conversation, prefill))


@dataclass(frozen=True)
class Prompting:
    """Under which contexts a model is asked.

    Args:
        positive: The context to follow.
        negative: The context to stay away from, if there is one.
        contrast: How the two become one.
        table: Embeddings of virtual tokens, in the order of their ids; on the model's device.
        identity: What it adds to the engine's identity (JSON values).
    """

    positive: Context
    negative: Context | None = None
    contrast: Contrast = UNCONTRASTED
    table: torch.Tensor | None = None
    identity: dict[str, Any] = field(default_factory=dict)
