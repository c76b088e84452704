"""Connections that cannot be held by clients that write or read one byte at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """An HTTP/1.1 connection that is closed when a request does not arrive, or an answer is not read, in time.

    The time for a request runs from its first byte (of the first one: from when the connection is made), whatever
    trickles in. While the application reads a body, it keeps the time itself, so that it can say so.

    A client that closes its half of the connection is taken to be gone.

    Args:
        read_seconds: For a request to arrive.
        stall_seconds: For a full send buffer to empty.
        **given: What uvicorn gives.
    """

    def __init__(self, *, read_seconds: float, stall_seconds: float, **given: Any) -> None:
        super().__init__(**given)
        self._read_seconds, self._stall_seconds = read_seconds, stall_seconds
        self._arriving: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes in; a request that is whole is waited for no more."""
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._wait()
        elif self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self._stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clocks."""
        super().connection_lost(exc)
        for timer in (self._arriving, self._stalled):
            if timer is not None:
                timer.cancel()

    def _wait(self) -> None:
        if self._arriving is None:
            self._arriving = self.loop.call_later(self._read_seconds, self._late)

    def _late(self) -> None:
        self._arriving = None
        in_work = self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]
        if in_work:  # the application reads the body, or answers already
            self._wait()
        else:
            self.transport.close()
