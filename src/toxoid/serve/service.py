"""The service: from what a client asks to the protected events of a job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from toxoid.engines.base import GenerationRequest
from toxoid.engines.guided import with_guidance
from toxoid.serve.jobs import Backend, Event, Failed, Finished, Job, Piece
from toxoid.serve.judging import JudgeThread
from toxoid.serve.metrics import Metrics
from toxoid.serve.problems import JobFailed
from toxoid.serve.protect import Guard, without_refused
from toxoid.serve.replies import Choice
from toxoid.serve.settings import ServeSettings
from toxoid.serve.spoken import Spoken
from toxoid.serve.upstream import Forwarded

if TYPE_CHECKING:
    from toxoid.engines.prompting import Prompting
    from toxoid.serve.handle import Handle


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a client.

    Args:
        request: What is asked of the model.
        alternatives: So many for every token; ``None`` tells no probabilities.
        penalties: As the client gave them.
        lowered: Whether the client asks for the bare model; heeded only where the operator allows it.
    """

    request: GenerationRequest
    alternatives: int | None = None
    penalties: dict[str, float] = field(default_factory=dict)
    lowered: bool = False


@dataclass(slots=True)
class Told:
    """What is known of an answer at its end.

    Args:
        choices: The replies.
        prompt_tokens: Of the request.
        completion_tokens: Of all replies.
        request_score: The judge's score of the request.
        reply_scores: Of each reply.
    """

    choices: list[Choice]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    request_score: float | None = None
    reply_scores: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class Service:
    """A backend with what stands around it.

    Args:
        backend: What answers.
        settings: The operator's.
        judges: Who judges requests and replies; ``None`` if nobody does.
        bare: The contexts of the unprotected model, for jobs that the operator lets ask it; ``None`` where the
            backend has none but its own.
        guidance: A system prompt to put before every conversation: where the backend has no contexts.
        forwards: Whether the backend takes the parameters that no local model honours.
        reload: Reads the shield again and puts it to use.
        metrics: What is counted.
        spoken: What was said under the judges' eyes.
    """

    backend: Backend
    settings: ServeSettings = field(default_factory=ServeSettings)
    judges: JudgeThread | None = None
    bare: Prompting | None = None
    guidance: str | None = None
    forwards: bool = False
    reload: Callable[[], None] | None = None
    metrics: Metrics = field(default_factory=Metrics)
    spoken: Spoken = field(default_factory=Spoken)

    async def answer(
        self, asked: Asked, told: Told, *, whole: bool
    ) -> AsyncGenerator[Piece | Finished, None]:
        """Yield the events that the client may see; whatever ends the iteration cancels the job.

        Args:
            asked: The request.
            told: Filled in on the way.
            whole: Whether nothing is sent before all is done, so that each reply is judged once.

        Raises:
            JobFailed: The job has ended without its answer.
            Exception: What :meth:`toxoid.serve.jobs.Backend.submit` and the judges raise.
        """
        start = time.monotonic()
        lowered = asked.lowered and self.settings.protection.allow_lowering
        judges = None if lowered else self.judges
        if judges is not None:
            asked = replace(asked, request=self._unrefused(asked.request))
        guard = Guard(asked.request, self.settings.protection, judges, self.metrics, self.spoken, whole=whole)
        told.reply_scores = guard.reply_scores
        admitted = await guard.admits()
        events = self._made(asked, guard, told, lowered) if admitted else self._refused(asked)
        told.request_score = guard.request_score
        first = True
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Failed):
                    raise JobFailed(event)
                if first:
                    self.metrics.observe("toxoid_first_event_seconds", time.monotonic() - start)
                    first = False
                self._note(event, told)
                if isinstance(event, Finished) and admitted and judges is not None:
                    self.spoken.add(asked.request.prefill + told.choices[event.index].text)
                yield event
        if any(choice.finish is None for choice in told.choices):
            raise JobFailed(Failed("the server stopped before the answer was done", "stopped"))

    def close(self) -> None:
        """Let what runs finish, as long as the operator gives it; then end the model and the judges."""
        self.backend.drain(self.settings.limits.drain_seconds)
        self.backend.close()
        if self.judges is not None:
            self.judges.close()

    def _unrefused(self, request: GenerationRequest) -> GenerationRequest:
        """Return a request without the messages that were refused."""
        kept = without_refused(request.conversation, self.settings.protection.refusal)
        return replace(request, conversation=kept)

    async def _refused(self, asked: Asked) -> AsyncGenerator[Event, None]:
        for index in range(asked.request.n):
            yield Piece(index, self.settings.protection.refusal)
            yield Finished(index, "content_filter", 0, 0)

    async def _made(
        self, asked: Asked, guard: Guard, told: Told, lowered: bool
    ) -> AsyncGenerator[Event, None]:
        handle = await self._submit(self._job(asked, lowered))
        told.prompt_tokens = handle.prompt_tokens or 0
        try:
            async with aclosing(guard.released(handle)) as events:
                async for event in events:
                    yield event
        finally:
            handle.cancel()

    def _job(self, asked: Asked, lowered: bool) -> Job:
        request = asked.request
        if self.guidance is not None and not lowered:
            request = replace(request, conversation=with_guidance(request.conversation, self.guidance))
        job = Job(
            request,
            logprobs=asked.alternatives,
            timeout=self.settings.limits.answer_seconds,
            prompting=self.bare if lowered else None,
        )
        if not self.forwards:
            return job
        return Forwarded(request, job.logprobs, timeout=job.timeout, extra=asked.penalties)

    async def _submit(self, job: Job) -> Handle:
        """Submit a job on another thread, as long prompts take long to encode."""
        submitted = asyncio.create_task(asyncio.to_thread(self.backend.submit, job))
        try:
            return await asyncio.shield(submitted)
        except asyncio.CancelledError:  # the client has gone meanwhile
            submitted.add_done_callback(_give_up)
            raise

    def _note(self, event: Piece | Finished, told: Told) -> None:
        choice = told.choices[event.index]
        if isinstance(event, Piece):
            choice.text += event.text
            choice.scores += event.scores
            return
        choice.finish = event.reason
        told.prompt_tokens = max(told.prompt_tokens, event.prompt_tokens)
        told.completion_tokens += event.completion_tokens
        self.metrics.count("toxoid_replies_total", finish=event.reason)


def _give_up(submitted: asyncio.Task[Handle]) -> None:
    if not submitted.cancelled() and submitted.exception() is None:
        submitted.result().cancel()
