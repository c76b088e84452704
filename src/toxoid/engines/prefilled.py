"""Engines that begin every reply with the same words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from toxoid.engines.base import Completion, Engine, GenerationRequest, OnDone
from toxoid.engines.wrapped import WrappedEngine


class PrefilledEngine(WrappedEngine):
    """Puts ``beginning`` into the open reply, before the prefill of the request if it has one.

    What is returned excludes it, and the blank that follows it.

    Args:
        engine: Who is asked.
        beginning: The words; no blank at their end.
        name: What is done, for people and as key in the identity.
    """

    def __init__(self, engine: Engine, beginning: str, *, name: str) -> None:
        super().__init__(engine, name, beginning)
        self._beginning = beginning

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Generate what follows the words."""

        def tell(index: int, done: list[Completion]) -> None:
            if on_done is not None:
                on_done(index, _replies(requests[index], done))

        begun = [
            replace(request, prefill=" ".join(filter(None, (self._beginning, request.prefill))))
            for request in requests
        ]
        found = self.engine.generate(begun, tell)
        return [_replies(request, done) for request, done in zip(requests, found, strict=True)]


def _replies(request: GenerationRequest, done: Sequence[Completion]) -> list[Completion]:
    """Return completions that begin a reply without the blank before them; others continue a prefill as they are."""
    return [each if request.prefill else replace(each, text=each.text.lstrip()) for each in done]
