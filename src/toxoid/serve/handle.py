"""Where the events of a job come: written by the backend's thread, read by one reader, with or without asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Condition

from toxoid.serve.jobs import Event, Failed, Finished


class Handle:
    """The events of one job, iterated with ``for`` or with ``async for``, by one reader.

    The iteration ends after every completion has finished, after the job has failed, or at once when it is cancelled.

    Args:
        completions: How many the job has.
        on_cancel: Called once if the job is cancelled before its end, in the thread that cancels.
        prompt_tokens: Of the positive context, where they are known at submission; ``None`` where only
            :class:`toxoid.serve.jobs.Finished` tells.
    """

    def __init__(
        self,
        completions: int,
        on_cancel: Callable[[], None] = lambda: None,
        *,
        prompt_tokens: int | None = None,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self._open = completions
        self._on_cancel = on_cancel
        self._events: deque[Event] = deque()
        self._changed = Condition()
        self._wake: Callable[[], object] | None = None
        self._cancelled = False

    @property
    def done(self) -> bool:
        """Whether no more events will come; some may still be unread."""
        return self._open == 0

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled before its end."""
        return self._cancelled

    def put(self, event: Event) -> None:
        """Add an event; for the backend. After the end it is dropped."""
        with self._changed:
            if self.done:
                return
            self._events.append(event)
            if isinstance(event, Failed):
                self._open = 0
            elif isinstance(event, Finished):
                self._open -= 1
            self._notify()

    def cancel(self) -> None:
        """Give up what is not done; unread events are dropped, and the reader's iteration ends."""
        with self._changed:
            if self.done:
                return
            self._cancelled, self._open = True, 0
            self._events.clear()
            self._notify()
        self._on_cancel()

    def __iter__(self) -> Handle:
        return self

    def __next__(self) -> Event:
        with self._changed:
            self._changed.wait_for(lambda: self._events or self.done)
            if not self._events:
                raise StopIteration
            return self._events.popleft()

    def __aiter__(self) -> Handle:
        return self

    async def __anext__(self) -> Event:
        while True:
            with self._changed:
                if self._events:
                    return self._events.popleft()
                if self.done:
                    raise StopAsyncIteration
                loop = asyncio.get_running_loop()
                news = asyncio.Event()
                self._wake = partial(loop.call_soon_threadsafe, news.set)
            await news.wait()

    def _notify(self) -> None:
        self._changed.notify_all()
        if self._wake is not None:
            wake, self._wake = self._wake, None
            with suppress(RuntimeError):  # the reader's loop is closed: nobody waits
                wake()
