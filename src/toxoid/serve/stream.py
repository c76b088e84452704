"""Streams and waits that end when the client goes: server-sent events, and answers that are sent as a whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Send

from toxoid.serve.problems import problem_of
from toxoid.serve.replies import Json

T = TypeVar("T")
DONE = b"data: [DONE]\n\n"


class ClientGone(Exception):
    """Nobody is there to answer."""


class EventStream(StreamingResponse):
    """Server-sent events, whose source is closed when the stream ends, however it ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], headers: dict[str, str]) -> None:
        # Proxies that collect answers before they pass them on are asked not to.
        super().__init__(events, headers={"cache-control": "no-store", "x-accel-buffering": "no", **headers})
        self._events = events

    async def stream_response(self, send: Send) -> None:
        """Send everything."""
        async with aclosing(self._events):
            await super().stream_response(send)


async def begun(chunks: AsyncGenerator[Json, None], request: Request, headers: dict[str, str]) -> EventStream:
    """Return the stream of ``chunks`` once the first of them is there: an error before it has a status of its own.

    Raises:
        ClientGone: The client has gone meanwhile.
        Exception: What the source raises before its first chunk.
    """
    try:
        first = await until_gone(request, anext(chunks))
    except BaseException:
        await chunks.aclose()
        raise
    return EventStream(_events(first, chunks), headers)


async def until_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what ``work`` returns; if the client goes, cancel it.

    Raises:
        ClientGone: The client has gone.
    """
    task, gone = asyncio.ensure_future(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


def event(value: Json) -> bytes:
    """Return one server-sent event. ASCII only: no text can end a line."""
    return f"data: {json.dumps(value)}\n\n".encode("ascii")


async def _events(first: Json, chunks: AsyncGenerator[Json, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        yield event(first)
        try:
            async for chunk in chunks:
                yield event(chunk)
        except Exception as error:  # the status is sent already: the error is an event
            yield event(problem_of(error).body())
            return
        yield DONE


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
