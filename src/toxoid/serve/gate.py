"""The gate: who may come in, how often, with how much, and what is written down of it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toxoid.serve.keys import KeyRing, KeySection
from toxoid.serve.limits import RateLimit
from toxoid.serve.logs import log
from toxoid.serve.metrics import Metrics
from toxoid.serve.problems import Problem
from toxoid.serve.replies import JsonAnswer
from toxoid.serve.settings import LimitsSection, is_loopback

OPEN = ("/", "/health", "/v1", "/v1/", "/openapi.json")
"""Paths that tell nothing and cost nothing, so that no key is asked for; files under /static/ are such, too."""
_DRAIN_SECONDS = 2.0  # for a client that sends too much to read why it is turned away


class _Gone(Exception):
    """The client has gone before its request was whole."""


@dataclass(slots=True)
class Visit:
    """What is known of one request; it becomes a line of the log.

    Args:
        id: Given to the client in ``x-request-id``.
        start: When it came.
        status: Of the answer; 499 if the client has gone before there was one.
        key: The name of the client's key.
        facts: What handlers add.
    """

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    start: float = field(default_factory=time.monotonic)
    status: int = 499
    key: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Gate:
    """Middleware (ASGI) in front of everything. Nothing of a body is read before its sender is known.

    Args:
        app: What is behind it.
        keys: Who may ask; can be exchanged while the server runs. Without keys, only a browser or client that
            addresses this machine by a loopback name is heard, so that no web page can lend it another name.
        limits: Sizes, times and counts.
        metrics: What is counted.
    """

    def __init__(self, app: ASGIApp, *, keys: KeyRing, limits: LimitsSection, metrics: Metrics) -> None:
        self.app = app
        self.keys = keys
        self._limits, self._rate, self._metrics = limits, RateLimit(limits), metrics
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit = Visit()
        scope.setdefault("state", {})["visit"] = visit

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", visit.id.encode())]
            await send(message)

        try:
            await self._admit(scope, receive, answered, visit)
        except Problem as problem:
            headers = {
                **problem.headers(),
                **({"connection": "close"} if problem.status in (408, 413) else {}),
            }
            await JsonAnswer(problem.body(), problem.status, headers)(scope, receive, answered)
        except _Gone:
            pass
        except Exception:
            visit.status = 500  # answered outside of this gate
            raise
        finally:
            self._record(scope, visit)

    async def _admit(self, scope: Scope, receive: Receive, send: Send, visit: Visit) -> None:
        headers = Headers(scope=scope)
        key = self._who(scope["path"], headers)
        visit.key = key.name if key else None
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        if wait := self._rate.take(key):
            raise Problem(429, "too many requests", code="rate_limit_exceeded", retry_after=wait)
        with self._one_more():
            body = await self._body(headers, receive)
            await self.app(scope, _replay(body, receive), send)

    def _who(self, path: str, headers: Headers) -> KeySection | None:
        """Return the key that a request comes with.

        Raises:
            Problem: It has none and needs one, or came here under a foreign name.
        """
        if not self.keys:
            if not _names_loopback(headers.get("host")):
                raise Problem(403, "this server answers to loopback names only, as it has no API keys")
            return None
        key = self.keys.find(headers.get("authorization", ""))
        if key is None and path not in OPEN and not path.startswith("/static/"):
            raise Problem(401, "no valid API key: send Authorization: Bearer KEY", code="invalid_api_key")
        return key

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        if self._inside >= self._limits.requests:
            raise Problem(429, "too many requests in work", code="rate_limit_exceeded", retry_after=1)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """Read a body within the limits.

        Raises:
            Problem: It is too large, or does not arrive.
        """
        most = self._limits.body_bytes
        announced = headers.get("content-length", "0")
        large = Problem(413, f"the body is larger than {most} bytes")
        if announced.isdecimal() and int(announced) > most:
            await _discard(receive)
            raise large
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.read_seconds):
                async for piece in _pieces(receive):
                    body += piece
                    if len(body) > most:
                        break
        except TimeoutError:
            raise Problem(408, "the body has not arrived in time") from None
        if len(body) > most:
            await _discard(receive)
            raise large
        return bytes(body)

    def _record(self, scope: Scope, visit: Visit) -> None:
        route = getattr(scope.get("route"), "path", "other")
        seconds = time.monotonic() - visit.start
        self._metrics.count("toxoid_requests_total", route=route, status=str(visit.status))
        self._metrics.observe("toxoid_request_seconds", seconds, route=route)
        log(
            "request",
            id=visit.id,
            key=visit.key,
            method=scope["method"],
            route=route,
            status=visit.status,
            seconds=round(seconds, 4),
            **visit.facts,
        )


async def _pieces(receive: Receive) -> Any:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def _discard(receive: Receive) -> None:
    """Read on for a moment: a client that still sends would lose the answer with the connection."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in _pieces(receive):
                pass
    except TimeoutError:
        pass


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body, and after it what the connection has to say."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _names_loopback(host: str | None) -> bool:
    """Return whether a ``Host`` header names this machine; one without it was sent by no browser."""
    if host is None:
        return True
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False
