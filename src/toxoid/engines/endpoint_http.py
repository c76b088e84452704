"""One HTTP exchange with an endpoint: post, read within a deadline, tell nobody the key."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx

from toxoid.engines.endpoint_pace import retry_after
from toxoid.errors import UsageError

_LARGEST_ANSWER = 64 * 2**20  # bytes
_EXCERPT = 300
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SHORTEST_QUERY_SECRET = 8  # shorter values (a version, a flag) are no keys, and words of messages


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server sent: status, body (JSON, or the text of an error), and the seconds it asks to wait."""

    status: int
    body: Any
    retry_after: float | None = None

    @property
    def real_status(self) -> int:
        """The status, or the one that a proxy put inside the error of a 200 answer."""
        error = self.body.get("error") if isinstance(self.body, dict) else None
        if self.status == 200 and isinstance(error, Mapping) and "choices" not in self.body:
            code = error.get("code")
            if isinstance(code, int) and 400 <= code < 600:
                return code
        return self.status


class Failed(Exception):
    """One try that may be repeated.

    Args:
        kind: A name of :class:`~toxoid.engines.endpoint_pace.Counters`.
        text: What happened, fit to be shown.
        pause: Seconds the server asked to wait.
        unreachable: No connection came about.
    """

    def __init__(
        self, kind: str, text: str, *, pause: float | None = None, unreachable: bool = False
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.pause = pause
        self.unreachable = unreachable


class Line:
    """A pool of connections to one address; safe to use from several threads.

    Args:
        url: Where to post; may hold a user and a password.
        key: Bearer token, or an empty string.
        timeout: Seconds for one whole answer.
        connections: Open at the same time.
    """

    def __init__(self, url: str, *, key: str, timeout: float, connections: int) -> None:
        self._url = url
        self._timeout = timeout
        self._secrets = _secrets(url, key)
        self._client = _client(url, key, timeout=timeout, connections=connections)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def post(self, body: bytes) -> Answer:
        """Send ``body`` and read the whole answer before the deadline.

        Raises:
            Failed: No answer, or one that is no JSON.
        """
        deadline = time.monotonic() + self._timeout
        try:
            with self._client.stream("POST", self._url, content=body) as response:
                content = _read_all(response, deadline)
                pause = retry_after(response.headers.get("retry-after"))
                status = response.status_code
        except httpx.ConnectTimeout:
            raise Failed("timeouts", "no connection in time", unreachable=True) from None
        except httpx.TimeoutException:
            raise Failed("timeouts", f"no answer within {self._timeout:g} s") from None
        except (httpx.RequestError, OSError) as error:
            text = self.clean(str(error) or type(error).__name__)
            unreachable = isinstance(error, httpx.ConnectError)
            raise Failed("disconnects", text, unreachable=unreachable) from None
        try:
            return Answer(status, json.loads(content), pause)
        except (ValueError, RecursionError):
            if status < 300:
                excerpt = self.clean(content[:_EXCERPT].decode("utf-8", "replace"))
                raise Failed("malformed", f"the answer is not JSON: {excerpt!r}") from None
            return Answer(status, content[:_EXCERPT].decode("utf-8", "replace"), pause)

    def clean(self, text: str) -> str:
        """Return server text fit for one line of a terminal, without any secret of ours."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= _EXCERPT else f"{line[:_EXCERPT]}..."


def _read_all(response: httpx.Response, deadline: float) -> bytes:
    """Return the body; the deadline is for the whole of it, where httpx's is for each piece."""
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("the answer took too long")
        if len(content) > _LARGEST_ANSWER:
            raise Failed("malformed", f"the answer is longer than {_LARGEST_ANSWER >> 20} MiB")
    return bytes(content)


def key_from(variable: str) -> str:
    """Return the key in an environment variable, or an empty string if it is not set.

    Raises:
        UsageError: The key cannot stand in a header.
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(
            f"the key in the environment variable {variable} has characters that no header can carry"
        )
    return key


def _secrets(url: str, key: str) -> tuple[str, ...]:
    """Return what must never be shown, longest first so that no part of one survives another."""
    parts = urlsplit(url)
    values = (value for _, value in parse_qsl(parts.query) if len(value) >= _SHORTEST_QUERY_SECRET)
    found = {key, parts.password or "", unquote(parts.password or ""), *values}
    return tuple(sorted((secret for secret in found if secret), key=len, reverse=True))


def _client(url: str, key: str, *, timeout: float, connections: int) -> httpx.Client:
    headers = {"content-type": "application/json", "accept": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    return httpx.Client(
        headers=headers,
        timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0), pool=None),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        # A proxy of the environment cannot reach a server on this machine.
        trust_env=urlsplit(url).hostname not in _LOOPBACK,
    )
