"""Guided inference: an engine that reminds the model of its manners before every conversation."""

from __future__ import annotations

from functools import partial

from toxoid.data.schemas import Conversation, Message
from toxoid.engines.base import Engine
from toxoid.engines.reworded import RewordedEngine


class GuidedEngine(RewordedEngine):
    """Puts ``guidance`` in front of every conversation (papers: mistake analysis, step 5).

    A system message of the conversation's own stays, after the guidance.
    """

    def __init__(self, engine: Engine, guidance: str) -> None:
        reword = partial(with_guidance, guidance=guidance)
        super().__init__(engine, reword, name="guided", words=guidance)


def with_guidance(conversation: Conversation, guidance: str) -> Conversation:
    """Return the conversation with ``guidance`` at the head of its system message."""
    if conversation and conversation[0].role == "system":
        return (Message("system", f"{guidance}\n\n{conversation[0].content}"), *conversation[1:])
    return (Message("system", guidance), *conversation)
