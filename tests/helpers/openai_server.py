"""A scripted OpenAI-compatible server on loopback, for tests of everything that talks to endpoints."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One scripted answer.

    ``texts`` make a chat completion; ``body`` (bytes, or anything JSON) is sent as it is. With ``wait`` the
    answer is held back until the event is set; with ``drop`` the connection is closed without an answer.
    """

    texts: tuple[str, ...] = ()
    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    finish_reason: str | None = "stop"
    wait: threading.Event | None = None
    drop: bool = False

    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(chat(self.texts, self.finish_reason) if self.body is None else self.body).encode()


def chat(texts: Iterable[str], finish_reason: str | None = "stop", **extra: Any) -> dict[str, Any]:
    """The body of a chat completion with these choices; tokens are counted as words."""
    texts = tuple(texts)
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "choices": [
            {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
            for i, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": sum(len(text.split()) for text in texts)},
        **extra,
    }


def error(status: int, message: str = "", code: str | None = None, **headers: str) -> Reply:
    """An error in OpenAI's layout; header names are given with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, body={"error": {"message": message, "code": code}}, headers=named)


def echo(request: dict[str, Any]) -> Reply:
    """Answer with the last user message, ``n`` times."""
    said = next(m["content"] for m in reversed(request["messages"]) if m["role"] == "user")
    return Reply(texts=(f"echo: {said}",) * request.get("n", 1))


class OpenAIServer:
    """Answers from ``script`` in order of arrival, then with ``default``.

    >>> with OpenAIServer([error(429), Reply(texts=("hello",))]) as server:
    ...     EndpointEngine(server.url, "m").generate(...)

    Attributes:
        requests: The JSON bodies received, in order.
        headers: The headers of each, names in lower case.
        paths: The paths of each.
        most_in_flight: The highest number of requests that were open at once.
    """

    def __init__(
        self, script: Iterable[Reply] = (), *, default: Callable[[dict[str, Any]], Reply] = echo
    ) -> None:
        self.script = list(script)
        self.default = default
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.in_flight = self.most_in_flight = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """The base URL to give to an engine."""
        return f"http://{self.address}/v1"

    def __enter__(self) -> OpenAIServer:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _next(self, request: dict[str, Any], path: str, headers: dict[str, str]) -> Reply:
        with self._lock:
            self.requests.append(request)
            self.paths.append(path)
            self.headers.append(headers)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            if self.script:
                return self.script.pop(0)
        return self.default(request)

    def _done(self) -> None:
        with self._lock:
            self.in_flight -= 1

    def _handler(outer) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = outer._next(body, self.path, headers)
                if reply.wait is not None:
                    reply.wait.wait(20)
                outer._done()
                if reply.drop:
                    self.close_connection = True
                    return
                content = reply.content()
                self.send_response(reply.status)
                for name, value in {"content-type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:  # the client has gone: a timeout or an interrupt under test
                    self.close_connection = True

        return Handler
