"""Engines that put every conversation in other words before it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from toxoid.data.schemas import Conversation
from toxoid.engines.base import Completion, Engine, GenerationRequest, OnDone
from toxoid.engines.wrapped import WrappedEngine


class RewordedEngine(WrappedEngine):
    """Asks ``reword(conversation)`` in place of a conversation.

    Args:
        engine: Who is asked.
        reword: Returns what is asked; a function of the conversation and ``words`` only.
        name: What is done, for people and as key in the identity.
        words: What is added (JSON values).
    """

    def __init__(
        self, engine: Engine, reword: Callable[[Conversation], Conversation], *, name: str, words: Any
    ) -> None:
        super().__init__(engine, name, words)
        self._reword = reword

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Generate for the reworded conversations."""
        return self.engine.generate(
            [replace(request, conversation=self._reword(request.conversation)) for request in requests],
            on_done,
        )
