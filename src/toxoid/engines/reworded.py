"""Engines that put every conversation in other words before it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from toxoid.data.schemas import Conversation
from toxoid.engines.base import Completion, Engine, GenerationRequest, OnDone


class RewordedEngine:
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
        self.engine = engine
        self.name = f"{engine.name} ({name})"
        self.granule = engine.granule
        self._reword = reword
        self._identity = {name: words}

    def identity(self) -> dict[str, Any]:
        """Return the inner engine's identity and what is added."""
        return {**self.engine.identity(), **self._identity}

    def close(self) -> None:
        """Close the inner engine."""
        self.engine.close()

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Generate for the reworded conversations."""
        return self.engine.generate(
            [replace(request, conversation=self._reword(request.conversation)) for request in requests],
            on_done,
        )
