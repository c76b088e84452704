"""Guided inference: an engine that reminds the model of its manners before every conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from toxoid.data.schemas import Conversation, Message
from toxoid.engines.base import Completion, Engine, GenerationRequest, OnDone


class GuidedEngine:
    """Puts ``guidance`` in front of every conversation (papers: mistake analysis, step 5).

    A system message of the conversation's own stays, after the guidance.
    """

    def __init__(self, engine: Engine, guidance: str) -> None:
        self.engine = engine
        self.guidance = guidance
        self.name = f"{engine.name} (guided)"
        self.granule = engine.granule

    def identity(self) -> dict[str, Any]:
        """Return the inner engine's identity and the guidance."""
        return {**self.engine.identity(), "guidance": self.guidance}

    def close(self) -> None:
        """Close the inner engine."""
        self.engine.close()

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Generate with the guidance in place."""
        guided = [replace(r, conversation=with_guidance(r.conversation, self.guidance)) for r in requests]
        return self.engine.generate(guided, on_done)


def with_guidance(conversation: Conversation, guidance: str) -> Conversation:
    """Return the conversation with ``guidance`` at the head of its system message."""
    if conversation and conversation[0].role == "system":
        return (Message("system", f"{guidance}\n\n{conversation[0].content}"), *conversation[1:])
    return (Message("system", guidance), *conversation)
