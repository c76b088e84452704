"""Upstream: a backend whose model is behind another OpenAI-compatible server (vLLM, Ollama, a provider)."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from toxoid.engines.base import FinishReason
from toxoid.engines.endpoint_pace import retry_after
from toxoid.engines.endpoint_wire import Dialect, chat_url, error_text, payload, refusal_of_prompt
from toxoid.serve.handle import Handle
from toxoid.serve.jobs import Draining, Failed, Finished, Job, Piece, Stats, TokenScore
from toxoid.serve.settings import is_loopback

if TYPE_CHECKING:
    from toxoid.engines.prompting import Prompting

_CONNECT_SECONDS = 10.0
_LARGEST_ERROR = 2**16  # bytes
_SHOWN = 300  # characters of its message
_FINISH: Mapping[Any, FinishReason] = {"length": "length", "content_filter": "content_filter"}


@dataclass(frozen=True, slots=True)
class Forwarded(Job):
    """A job with parameters that only the upstream knows.

    Args:
        extra: Their names and values, as the client sent them.
    """

    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected(Failed):
    """A job that the upstream does not do.

    Args:
        status: What to answer: its own status, or 502 where that is no affair of the client's.
        code: Its word for what is wrong.
        retry_after: Seconds it asks to wait.
    """

    status: int = 502
    code: str | None = None
    retry_after: float | None = None


class _Refused(Exception):
    def __init__(self, event: Failed) -> None:
        super().__init__(event.message)
        self.event = event


class Upstream:
    """Answers jobs by asking a server: one streamed call for each completion of a job.

    So servers that know no ``n`` serve as well. Calls of cancelled jobs are closed at once.

    Args:
        url: Such as ``http://127.0.0.1:8000/v1``.
        name: The model's name there.
        key: Bearer token, or an empty string; no client ever sees it.

    Raises:
        UsageError: The address is none.
    """

    def __init__(self, url: str, name: str, *, key: str = "") -> None:
        self.name = name
        self._url = chat_url(url)
        self._key = key
        self._dialect = Dialect()
        self._draining = False
        self._tasks: dict[asyncio.Task[None], Handle] = {}
        self._counts = Stats()
        self._loop = asyncio.new_event_loop()
        self._client = self._new_client()
        self._thread = threading.Thread(target=self._loop.run_forever, name="upstream", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Handle:
        """Take a job; see :class:`toxoid.serve.jobs.Backend`.

        Raises:
            Draining: No more jobs are taken.
        """
        if self._draining:
            raise Draining("the server finishes what runs and takes no more")
        handle = Handle(job.request.n, lambda: self._later(give_up))
        tasks = []

        def begin() -> None:
            task = self._loop.create_task(self._run(job, handle))
            tasks.append(task)
            self._tasks[task] = handle
            task.add_done_callback(self._tasks.pop)

        def give_up() -> None:
            tasks[0].cancel()

        self._later(begin)
        return handle

    def stats(self) -> Stats:
        """Return the counts; what happens inside the upstream is not known."""
        return replace(self._counts, running=len(self._tasks))

    def swap(self, prompting: Prompting) -> None:
        """Refuse: there are no soft prompts in front of a model whose weights are elsewhere."""
        raise NotImplementedError("an upstream has no shield")

    def drain(self, timeout: float | None = None) -> bool:
        """Take no more jobs and wait for those that run; see :class:`toxoid.serve.jobs.Backend`."""
        self._draining = True

        async def wait() -> None:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=timeout)

        asyncio.run_coroutine_threadsafe(wait(), self._loop).result()
        return not self._tasks

    def close(self) -> None:
        """Stop now: jobs that are not done fail."""
        self._draining = True

        async def end() -> None:
            for task, handle in list(self._tasks.items()):
                handle.put(Failed("the server stops", "stopped"))
                task.cancel()
            await self._client.aclose()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _later(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)

    async def _run(self, job: Job, handle: Handle) -> None:
        self._count("submitted")
        ended = "cancelled"
        try:
            event = await self._failure(job, handle)
            ended = "failed" if event else "finished"
            if event is not None:
                handle.put(event)
        finally:
            self._count(ended)

    async def _failure(self, job: Job, handle: Handle) -> Failed | None:
        """Make all completions of a job; return why that failed, if it did."""
        try:
            async with asyncio.timeout(job.timeout), asyncio.TaskGroup() as group:
                for index in range(job.request.n):
                    group.create_task(self._complete(job, index, handle))
        except TimeoutError:
            return Failed("the upstream has not answered before the deadline", "timeout")
        except ExceptionGroup as errors:
            error = errors.exceptions[0]
            return (
                error.event
                if isinstance(error, _Refused)
                else Rejected(f"the upstream failed: {_words(error)}")
            )
        return None

    async def _complete(self, job: Job, index: int, handle: Handle) -> None:
        """Make one completion: its pieces, then its end."""
        reason: FinishReason | None = None
        usage: Mapping[str, Any] = {}
        pieces = 0
        async for chunk in self._chunks(job, index):
            if isinstance(chunk.get("usage"), dict):
                usage = chunk["usage"]
            for choice in chunk.get("choices") or ():
                text = (choice.get("delta") or {}).get("content")
                if not isinstance(text, str | None):
                    raise TypeError
                if text:
                    pieces += 1
                    handle.put(Piece(index, text, _scores(choice)))
                if choice.get("finish_reason"):
                    reason = _FINISH.get(choice["finish_reason"], "stop")
        if reason is None:
            raise _Refused(Rejected("the upstream broke off"))
        asked, drawn = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or pieces
        self._count("prompt_tokens", asked if index == 0 else 0)
        self._count("completion_tokens", drawn)
        handle.put(Finished(index, reason, asked, drawn))

    async def _chunks(self, job: Job, index: int) -> AsyncIterator[dict[str, Any]]:
        """Yield the chunks of one streamed call.

        Raises:
            _Refused: The upstream answers with an error, or with something else.
        """
        async with self._answer(job, index) as response:
            if response.headers.get("content-type", "").split(";")[0].strip() != "text/event-stream":
                raise _Refused(Rejected("the upstream does not stream"))
            async for line in response.aiter_lines():
                if not line.startswith("data:"):
                    continue
                data = line.removeprefix("data:").strip()
                if data == "[DONE]":
                    return
                chunk = json.loads(data)
                if chunk.get("error"):
                    raise _Refused(Rejected(f"the upstream failed: {self._clean(error_text(chunk))}"))
                yield chunk

    @asynccontextmanager
    async def _answer(self, job: Job, index: int) -> AsyncIterator[httpx.Response]:
        """Ask, in the other name of the token limit if the upstream wants that; it is kept for later calls.

        Raises:
            _Refused: The upstream answers with an error.
        """
        while True:
            dialect = self._dialect
            content = _body(self.name, job, index, dialect)
            async with self._client.stream("POST", self._url, content=content) as response:
                if response.status_code == 200:
                    yield response
                    return
                body = await _error(response)
            if not _wants_other_limit(response.status_code, body, dialect):
                raise _Refused(self._refusal(response, body))
            self._dialect = replace(dialect, limit="max_completion_tokens")

    def _refusal(self, response: httpx.Response, body: Any) -> Failed:
        """Return what an error of the upstream means for the client."""
        status = response.status_code
        said = self._clean(error_text(body)) or "no message"
        if status in (401, 403):
            return Rejected("the upstream does not accept this server's key")
        if blocked := refusal_of_prompt(status, body):
            code = "context_length_exceeded" if blocked[0] == "length" else "content_filter"
            return Rejected(said, status=400, code=code)
        if status == 429:
            return Rejected(
                said, status=429, retry_after=retry_after(response.headers.get("retry-after")) or 1
            )
        if status in (400, 404, 413, 422):
            return Rejected(f"the upstream says: {said}", status=400)
        return Rejected(f"the upstream answered HTTP {status}: {said}")

    def _clean(self, text: str) -> str:
        """Return the upstream's words as one short line, without the key."""
        line = " ".join(text.split())[:_SHOWN]
        return line.replace(self._key, "***") if self._key else line

    def _count(self, name: str, amount: int = 1) -> None:
        self._counts = replace(self._counts, **{name: getattr(self._counts, name) + amount})

    def _new_client(self) -> httpx.AsyncClient:
        headers = {"content-type": "application/json", "accept": "text/event-stream"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        return httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),  # jobs have their own deadlines
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            # A proxy of the environment cannot reach a server on this machine.
            trust_env=not is_loopback(urlsplit(self._url).hostname or ""),
        )


async def _error(response: httpx.Response) -> Any:
    """Return the body of an error; ``None`` if it is not JSON."""
    text = bytearray()
    async for piece in response.aiter_bytes():
        text += piece
        if len(text) > _LARGEST_ERROR:
            break
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _wants_other_limit(status: int, body: Any, dialect: Dialect) -> bool:
    """Return whether an error says that the token limit has a newer name there."""
    named = "max_completion_tokens" in error_text(body)
    return status in (400, 422) and named and dialect.limit == "max_tokens"


def _body(model: str, job: Job, index: int, dialect: Dialect) -> bytes:
    """Return the body that asks for completion ``index`` of a job."""
    body = payload(model, job.request, dialect, n=1, first=index)
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    if job.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": job.logprobs}
    if isinstance(job, Forwarded):
        body |= job.extra
    return json.dumps(body).encode("ascii")


def _scores(choice: Mapping[str, Any]) -> tuple[TokenScore, ...]:
    """Return the tokens of a chunk with their probabilities, if it has them."""
    tokens = (choice.get("logprobs") or {}).get("content") or ()
    return tuple(
        TokenScore(
            token["token"],
            token["logprob"],
            tuple((other["token"], other["logprob"]) for other in token.get("top_logprobs") or ()),
        )
        for token in tokens
    )


def _words(error: BaseException) -> str:
    return "no connection" if isinstance(error, httpx.ConnectError) else type(error).__name__
