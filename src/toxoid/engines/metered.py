"""Metered engine: counts what a model is asked and what it takes, and stops before a cap is exceeded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from toxoid.data.schemas import Conversation
from toxoid.engines.base import Completion, Engine, GenerationRequest, OnDone
from toxoid.engines.wrapped import WrappedEngine
from toxoid.errors import UsageError

PromptTokens: TypeAlias = Callable[[Conversation, str], int]
"""Returns an upper bound of the tokens that a conversation with its prefill has for a model."""

_FIRST = 16
"""Answers after which the pace of an engine is told that answers one by one."""
_TURN_TOKENS = 16
"""More than a chat template puts around a turn."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What was asked: replies, tokens read for them and written in them, and the seconds that took."""

    replies: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.prompt_tokens + self.reply_tokens

    def plus(self, other: Usage) -> Usage:
        """Return the sum."""
        return Usage(
            self.replies + other.replies,
            self.prompt_tokens + other.prompt_tokens,
            self.reply_tokens + other.reply_tokens,
            self.seconds + other.seconds,
        )

    def minus(self, earlier: Usage) -> Usage:
        """Return what came since ``earlier``."""
        return Usage(
            self.replies - earlier.replies,
            self.prompt_tokens - earlier.prompt_tokens,
            self.reply_tokens - earlier.reply_tokens,
            self.seconds - earlier.seconds,
        )


def most(requests: Sequence[GenerationRequest], prompt_tokens: PromptTokens) -> Usage:
    """Return the most that requests can take; every reply reads its prompt and may use all its tokens."""
    return Usage(
        replies=sum(request.n for request in requests),
        prompt_tokens=sum(
            request.n * prompt_tokens(request.conversation, request.prefill) for request in requests
        ),
        reply_tokens=sum(request.n * request.sampling.max_tokens for request in requests),
    )


def by_bytes(conversation: Conversation, prefill: str) -> int:
    """Bound the tokens for a model whose tokenizer is elsewhere: none is shorter than a byte."""
    texts = [turn.content for turn in conversation] + [prefill]
    return sum(len(text.encode("utf-8", "replace")) + _TURN_TOKENS for text in texts)


@dataclass(slots=True)
class Meter:
    """Adds up the usage of the engines that share it, and knows the caps.

    Args:
        prompt_tokens: Bounds what a prompt will take before it is asked.
        max_replies: Most replies; ``None`` for no cap.
        max_tokens: Most tokens, read and written.
    """

    prompt_tokens: PromptTokens
    max_replies: int | None = None
    max_tokens: int | None = None
    used: Usage = Usage()

    @property
    def capped(self) -> bool:
        """Whether there is a cap."""
        return self.max_replies is not None or self.max_tokens is not None

    def check(self, coming: Usage) -> None:
        """Refuse what could exceed a cap together with what was used.

        Raises:
            UsageError: Names the cap.
        """
        for what, flag, cap, used, more in (
            ("replies", "--max-requests", self.max_replies, self.used.replies, coming.replies),
            ("tokens", "--max-total-tokens", self.max_tokens, self.used.tokens, coming.tokens),
        ):
            if cap is not None and used + more > cap:
                before = f" after the {used:,} so far" if used else ""
                raise UsageError(
                    f"the cap is {cap:,} {what}, and up to {more:,} would be needed{before}: raise {flag}, or ask less "
                    "(--limit, --samples, --max-tokens); what was answered is kept"
                )


class MeteredEngine(WrappedEngine):
    """Asks ``engine`` as it is asked, if the meter allows it.

    It belongs below a cache: what is answered from there costs nothing.

    Args:
        engine: Who is asked.
        meter: Shared by all engines under one cap.
        on_first: Called once, when the first batch of several is answered, with what it took.
    """

    def __init__(self, engine: Engine, meter: Meter, on_first: Callable[[Usage], None] | None = None) -> None:
        """Ask nothing yet."""
        super().__init__(engine)
        self.meter = meter
        self.used = Usage()
        self._on_first = on_first

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Return what the inner engine does.

        Raises:
            UsageError: The requests could exceed a cap; nothing of this call was asked.
        """
        if self.meter.capped:
            self.meter.check(most(requests, self.meter.prompt_tokens))
        started, before, done = time.monotonic(), self.used, 0

        def count(index: int, completions: list[Completion]) -> None:
            nonlocal done
            done += 1
            self.used = self.used.plus(_usage(completions))
            if self._on_first and max(self.granule, _FIRST) == done < len(requests):
                self._on_first(self.used.minus(before).plus(Usage(seconds=time.monotonic() - started)))
                self._on_first = None
            if on_done is not None:
                on_done(index, completions)

        try:
            answers = self.engine.generate(requests, count)
            for silent in answers if not done else ():  # of an engine that reports nothing along the way
                self.used = self.used.plus(_usage(silent))
            return answers
        finally:
            self.used = self.used.plus(Usage(seconds=time.monotonic() - started))
            self.meter.used = self.meter.used.plus(self.used.minus(before))


def _usage(completions: Sequence[Completion]) -> Usage:
    return Usage(
        len(completions),
        sum(done.prompt_tokens for done in completions),
        sum(done.completion_tokens for done in completions),
    )
