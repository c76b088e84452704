"""Runs the application on a port until it is told to stop; what runs then is finished."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import uvicorn

from toxoid.errors import UsageError
from toxoid.serve.app import create_app
from toxoid.serve.connections import Connection
from toxoid.serve.keys import KeyRing
from toxoid.serve.logs import start_logging
from toxoid.serve.playground import Playground
from toxoid.serve.service import Service
from toxoid.serve.settings import ServeSettings

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_BACKLOG = 1024


class _Server(uvicorn.Server):
    """A server that says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def check_start(settings: ServeSettings) -> None:
    """Find out before a model is loaded whether the server could start.

    Raises:
        UsageError: As :func:`run_server`.
    """
    KeyRing(settings.keys)
    with _listening(settings.host, settings.port):
        pass


def run_server(service: Service, ready: Callable[[str], None], playground: Playground | None = None) -> None:
    """Serve until SIGTERM or SIGINT: new connections are refused then, and running answers finish.

    Args:
        service: What answers; it is closed at the end.
        ready: Told the URL as soon as clients are heard.
        playground: What the page at ``/`` shows; without it there is no page.

    Raises:
        UsageError: The address cannot be listened on, or the keys cannot be read.
    """
    settings = service.settings
    app = create_app(service, playground)
    with _listening(settings.host, settings.port) as listener, _stopped_quietly():
        start_logging()
        host, port = listener.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        _Server(_config(app, settings), partial(ready, url)).run([listener])


def _config(app: Any, settings: ServeSettings) -> uvicorn.Config:
    limits = settings.limits
    connection = partial(Connection, read_seconds=limits.read_seconds, stall_seconds=limits.stall_seconds)
    return uvicorn.Config(
        app,
        http=cast(Any, connection),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the peer is who is connected, whatever a header says
        timeout_keep_alive=int(limits.read_seconds) or 1,
        timeout_graceful_shutdown=limits.drain_seconds,
    )


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host.strip("[]"), port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        why = str(getattr(error, "strerror", None) or error).partition(" (while")[
            0
        ]  # Python adds the address
        raise UsageError(
            f"cannot listen on {host}, port {port}: {why}; choose with --host and --port (0 takes a free one)"
        ) from error
    with listener:
        yield listener


@contextmanager
def _stopped_quietly() -> Iterator[None]:
    """Let a signal that stopped the server do nothing more: uvicorn raises it again when it has finished."""
    old = {number: signal.signal(number, signal.SIG_IGN) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
