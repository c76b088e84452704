"""The endpoint engine: completions from any server that speaks OpenAI-compatible chat completions."""

from __future__ import annotations

import json
import queue
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

from toxoid.config.prompt_files import prompts_hash
from toxoid.engines.base import Completion, GenerationRequest, OnDone
from toxoid.engines.endpoint_http import Answer, Failed, Line, key_from
from toxoid.engines.endpoint_pace import AdaptiveLimit, Counters, Outcome, backoff_delay
from toxoid.engines.endpoint_wire import (
    PREFILL_NOTE,
    BadReply,
    Dialect,
    PrefillMode,
    alternatives,
    blocked,
    chat_url,
    completions_of,
    error_text,
    payload,
    public_url,
    refusal_of_prompt,
)
from toxoid.errors import UsageError, did_you_mean

PREFILL_MODES: tuple[PrefillMode, ...] = ("auto", "continue", "fallback", "refuse")
_TRIES_WHEN_DOWN = 3


@dataclass(frozen=True, slots=True)
class Price:
    """What an endpoint charges, in any one currency, per million tokens."""

    prompt: float
    completion: float


class _Rejected(Exception):
    """The server understood and will not do it (a 4xx that no repetition changes)."""

    def __init__(self, answer: Answer, text: str) -> None:
        super().__init__(text)
        self.answer = answer
        self.text = text


class _Stopped(Exception):
    """The caller has been interrupted or another request has failed for good."""


class EndpointEngine:
    """Ask a server over HTTP, many requests at once.

    - **Pace**: calls in flight start at 20 (or ``max_concurrency``), fall by a fifth on HTTP 429 and grow
      again with success; 5xx only puts off the growth. ``Retry-After`` is honoured, up to two minutes.
    - **Retries**: 429, 408, 409, 5xx, timeouts, dropped connections and answers that are not chat completions
      are tried again with exponential backoff. Every other 4xx is a :class:`UsageError` at once, except one
      that concerns a single prompt: a prompt caught by the server's content filter or longer than its
      context becomes an empty completion whose metadata say so under ``error``.
    - **Sampling**: the seed sent is derived from the request's seed. Whether a server honours seeds is its
      affair, so completions from endpoints are repeatable through the cache only. A server that gives fewer
      than ``n`` choices is asked again for the rest. At temperature 0 one completion is asked and repeated.
    - **Prefill**: sent as an open assistant turn (``continue_final_message``, as vLLM names it). A server may
      ignore these names silently and open a new turn; that cannot be told from outside. ``prefill`` says
      what to do with servers that refuse them: ``auto`` falls back, with a warning, to a note in the
      user's turn; ``continue`` raises; ``fallback`` never tries; ``refuse`` raises before asking. The
      completion's metadata say ``{"prefill": "continue" | "fallback"}``.

    Args:
        base_url: Such as ``http://127.0.0.1:8000/v1``; the full path to ``/chat/completions`` works too.
        model: The model's name on the server.
        api_key_env: Environment variable that holds the key; unset means that none is sent. The key is read
            once and shows up in no identity, error or log.
        timeout: Seconds for one whole answer.
        max_concurrency: Calls in flight at most.
        retries: Further tries after a failed one.
        prefill: See above.
        price: Turns token counts into :attr:`cost`.
        backoff: Seconds before the first retry.

    Raises:
        UsageError: An argument cannot work.
    """

    granule = 1

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        max_concurrency: int = 32,
        retries: int = 6,
        prefill: PrefillMode = "auto",
        price: Price | None = None,
        backoff: float = 0.5,
    ) -> None:
        _check(model, timeout=timeout, max_concurrency=max_concurrency, retries=retries, prefill=prefill)
        self._url = chat_url(base_url)
        self.model = model
        self.name = f"{model} at {public_url(base_url)}"
        self.prefill = prefill
        self.price = price
        self._api_key_env = api_key_env
        self._retries, self._backoff = retries, backoff
        self._limit = AdaptiveLimit(max_concurrency)
        self._counters = Counters()
        self._lock = threading.Lock()
        self._dialect = Dialect(prefill="fallback" if prefill == "fallback" else "continue")
        self._warned = False
        self._line = Line(self._url, key=key_from(api_key_env), timeout=timeout, connections=max_concurrency)

    def __repr__(self) -> str:
        return f"EndpointEngine({public_url(self._url)!r}, {self.model!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the engine cannot be used afterwards."""
        self._line.close()

    def identity(self) -> dict[str, Any]:
        """Return the address without credentials, the model's name and how prefills are sent."""
        return {
            "engine": "endpoint",
            "version": 1,
            "url": public_url(self._url),
            "model": self.model,
            "prefill": self.prefill,
            "prefill_note": prompts_hash([PREFILL_NOTE]),
        }

    @property
    def counters(self) -> Counters:
        """What has happened so far (a copy)."""
        with self._lock:
            return replace(self._counters)

    @property
    def cost(self) -> float | None:
        """What the tokens so far cost, or ``None`` without a price."""
        if self.price is None:
            return None
        seen = self.counters
        spent = self.price.prompt * seen.prompt_tokens + self.price.completion * seen.completion_tokens
        return spent / 1e6

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Return ``n`` completions per request, in the order of ``requests``.

        ``on_done`` is called in this thread, in the order in which requests finish. On an interrupt or an
        error, requests that have already finished are still reported to ``on_done`` before it is raised.

        Raises:
            UsageError: The endpoint is down, rejects the request, or keeps failing.
        """
        if self.prefill == "refuse" and any(request.prefill for request in requests):
            raise UsageError(
                f"{self.name}: a request has an open assistant turn (prefill) and prefill is set to refuse: "
                "leave out the tasks that need it, or set prefill to auto"
            )
        finished: list[list[Completion] | None] = [None] * len(requests)
        with self._working(requests) as done:
            for _ in requests:
                try:
                    index, outcome = done.get()
                except KeyboardInterrupt:
                    _report_rest(done, on_done)
                    raise
                if isinstance(outcome, BaseException):
                    _report_rest(done, on_done)
                    raise outcome
                finished[index] = outcome
                if on_done:
                    on_done(index, outcome)
        return [completions for completions in finished if completions is not None]

    @contextmanager
    def _working(self, requests: Sequence[GenerationRequest]) -> Iterator[_Done]:
        """Run the requests on daemon threads: an interrupt need not wait for a slow server.

        (An executor's threads would be joined at exit, and with them the longest timeout.)
        """
        stop = threading.Event()
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        done: _Done = queue.SimpleQueue()
        for index in range(len(requests)):
            todo.put(index)

        def work() -> None:
            while not stop.is_set():
                try:
                    index = todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    done.put((index, self._complete(requests[index], stop)))
                except _Stopped:
                    return
                except Exception as error:
                    done.put((index, error))
                    return

        for _ in range(min(self._limit.maximum, len(requests))):
            threading.Thread(target=work, daemon=True).start()
        try:
            yield done
        finally:
            stop.set()

    def _complete(self, request: GenerationRequest, stop: threading.Event) -> list[Completion]:
        """Return all completions of one request, asking until there are enough."""
        greedy = request.sampling.temperature == 0
        wanted = min(request.n, 1) if greedy else request.n
        found: list[Completion] = []
        while len(found) < wanted:
            missing = wanted - len(found)
            found += self._ask(request, missing, len(found), stop)[:missing]
        return found * request.n if greedy else found

    def _ask(self, request: GenerationRequest, n: int, first: int, stop: threading.Event) -> list[Completion]:
        """Ask for ``n`` completions in the dialect known so far; where it is refused, look for another."""
        dialect = self._dialect
        others: Iterator[Dialect] | None = None
        refused: _Rejected | None = None
        while True:
            try:
                found = self._call(request, dialect, n, first, stop)
            except _Rejected as rejected:
                if prompt_level := refusal_of_prompt(rejected.answer.status, rejected.answer.body):
                    return blocked(request, n, *prompt_level)
                refused = refused or rejected  # the first message is about what was really asked
                if others is None and rejected.answer.status in (400, 422):
                    others = alternatives(dialect, request, n=n, mode=self.prefill, message=rejected.text)
                following = next(others, None) if others else None
                if following is None:
                    raise UsageError(refused.text + self._prefill_advice(request)) from None
                dialect = following
            else:
                self._learn(request, dialect, new=others is not None)
                return found

    def _learn(self, request: GenerationRequest, dialect: Dialect, *, new: bool) -> None:
        """Keep a ``new`` dialect that worked; say once that prefills are only imitated.

        An old one is not written back: another thread may have learned better meanwhile.
        """
        with self._lock:
            if new:
                self._dialect = dialect
            if request.prefill and dialect.prefill == "continue":
                self._dialect = replace(self._dialect, prefill="continue", proven=True)
            warn = bool(request.prefill) and dialect.prefill == "fallback" and not self._warned
            self._warned = self._warned or warn
        if warn:
            warnings.warn(
                f"{self.name} does not continue an open assistant turn: prefills are imitated by a note in "
                "the user's turn, and marked as fallback; compare them with other fallbacks only",
                stacklevel=2,
            )

    def _call(
        self, request: GenerationRequest, dialect: Dialect, n: int, first: int, stop: threading.Event
    ) -> list[Completion]:
        """Post one body until it is answered; return its completions.

        Raises:
            _Rejected: The server says no.
            UsageError: All tries failed.
        """
        body = json.dumps(payload(self.model, request, dialect, n=n, first=first)).encode("ascii")
        for attempt in range(self._retries + 1):
            try:
                return self._try(body, request, dialect, stop)
            except Failed as failure:
                down = failure.unreachable and not self._counters.ok
                last = min(self._retries, _TRIES_WHEN_DOWN) if down else self._retries
                if attempt >= last:
                    raise UsageError(self._gave_up(failure, attempt + 1, down=down)) from None
                delay = backoff_delay(
                    attempt, base=min(self._backoff, 0.2) if down else self._backoff, seed=request.seed
                )
                self._wait(max(delay, failure.pause or 0.0), stop)
                self._count("retries")
        raise AssertionError("unreachable")

    def _try(
        self, body: bytes, request: GenerationRequest, dialect: Dialect, stop: threading.Event
    ) -> list[Completion]:
        """Post once, inside the concurrency limit."""
        ticket = self._limit.acquire(stop.is_set)
        if ticket is None:
            raise _Stopped
        outcome: Outcome = "failed"
        pause = 0.0
        try:
            self._count("calls")
            completions = self._read(self._line.post(body), request, dialect)
            outcome = "ok"
            return completions
        except Failed as failure:
            self._count(failure.kind)
            if failure.kind == "throttled":
                outcome, pause = "throttled", failure.pause or 0.0
            raise
        finally:
            self._limit.release(ticket, outcome, pause=pause)

    def _read(self, answer: Answer, request: GenerationRequest, dialect: Dialect) -> list[Completion]:
        """Turn an answer into completions, or into the right kind of failure."""
        status = answer.real_status
        text = f"HTTP {status}: {self._line.clean(error_text(answer.body)) or 'no message'}"
        if status == 429 and "insufficient_quota" not in str(answer.body):
            raise Failed("throttled", text, pause=answer.retry_after)
        if status in (408, 409) or status >= 500:
            raise Failed("server_errors", text, pause=answer.retry_after)
        if status >= 300:
            raise _Rejected(answer, f"{self.name} answered {text}{self._advice(status)}")
        try:
            completions = completions_of(answer.body, request, dialect)
        except BadReply as error:
            raise Failed("malformed", self._line.clean(str(error))) from None
        with self._lock:
            self._counters.ok += 1
            self._counters.prompt_tokens += completions[0].prompt_tokens
            self._counters.completion_tokens += sum(c.completion_tokens for c in completions)
        return completions

    def _advice(self, status: int) -> str:
        if status < 400:
            return " (a redirection: give the final address with --endpoint)"
        if status in (401, 403):
            return f" (the key is read from the environment variable {self._api_key_env})"
        if status in (404, 405):
            return f" (asked: {public_url(self._url)}; check --endpoint and the model's name)"
        return ""

    def _prefill_advice(self, request: GenerationRequest) -> str:
        if not request.prefill or self.prefill != "continue" or self._dialect.proven:
            return ""
        return " (it was asked to continue an open assistant turn; if it cannot, leave out what begins replies for it)"

    def _gave_up(self, failure: Failed, tries: int, *, down: bool) -> str:
        url = public_url(self._url)
        if down:
            return f"endpoint is down: {url} ({failure}), start it or check --endpoint"
        return (
            f"{self.name}: gave up after {tries} tries, the last one: {failure} "
            f"(so far: {self.counters.failures()}); run the same command again to continue"
        )

    def _wait(self, seconds: float, stop: threading.Event) -> None:
        if stop.wait(seconds):
            raise _Stopped

    def _count(self, name: str) -> None:
        with self._lock:
            setattr(self._counters, name, getattr(self._counters, name) + 1)


_Done = queue.SimpleQueue[tuple[int, list[Completion] | BaseException]]


def _report_rest(done: _Done, on_done: OnDone | None) -> None:
    """Report what has finished meanwhile."""
    while on_done:
        try:
            index, outcome = done.get_nowait()
        except queue.Empty:
            return
        if not isinstance(outcome, BaseException):
            on_done(index, outcome)


def _check(model: str, *, timeout: float, max_concurrency: int, retries: int, prefill: str) -> None:
    if not model.strip():
        raise UsageError("an endpoint needs the name of a model on it: give --model NAME")
    if prefill not in PREFILL_MODES:
        known = ", ".join(PREFILL_MODES)
        raise UsageError(
            f'prefill cannot be "{prefill}".{did_you_mean(prefill, PREFILL_MODES)} Known: {known}.'
        )
    for name, value, least in (("max_concurrency", max_concurrency, 1), ("retries", retries, 0)):
        if value < least:
            raise UsageError(f"{name} is {value}: give {least} or more")
    if not timeout > 0:
        raise UsageError(f"timeout is {timeout:g}: give seconds above 0")
