"""How fast to ask an endpoint: adaptive concurrency, waits between tries, and what was counted."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, TypeAlias

START = 20
LONGEST_WAIT = 120.0
LONGEST_BACKOFF = 30.0

Outcome: TypeAlias = Literal["ok", "throttled", "failed"]


class AdaptiveLimit:
    """Additive increase, multiplicative decrease of the number of calls in flight.

    One more after as many successes as the limit is high; a fifth less on "too many requests", once per
    wave: calls that had left before the last cut do not cut again. Other failures only put off the growth,
    for they say nothing about the pace.

    Args:
        maximum: Never more than this many.
        start: The first limit, if ``maximum`` allows it.
    """

    def __init__(self, maximum: int, *, start: int = START) -> None:
        self.maximum = maximum
        self.limit = float(min(start, maximum))
        self._in_flight = 0
        self._successes = 0
        self._cuts = 0
        self._not_before = 0.0
        self._changed = threading.Condition()

    def acquire(self, stopped: Callable[[], bool]) -> int | None:
        """Wait for a place; return a ticket for :meth:`release`, or ``None`` once ``stopped()``."""
        with self._changed:
            while not stopped():
                pause = self._not_before - time.monotonic()
                if pause <= 0 and self._in_flight < int(self.limit):
                    self._in_flight += 1
                    return self._cuts
                # Wakes up now and then because `stopped` may change without notice.
                self._changed.wait(min(max(pause, 0.01), 0.2) if pause > 0 else 0.2)
        return None

    def release(self, ticket: int, outcome: Outcome, *, pause: float = 0.0) -> None:
        """Give the place back; ``pause`` seconds pass before anybody else gets one."""
        with self._changed:
            self._in_flight -= 1
            if pause > 0:
                self._not_before = max(self._not_before, time.monotonic() + pause)
            if outcome == "ok":
                self._grow()
            elif outcome == "failed":
                self._successes = -int(self.limit)
            elif ticket == self._cuts:
                self.limit, self._successes, self._cuts = max(1.0, self.limit * 0.8), 0, self._cuts + 1
            self._changed.notify_all()

    def _grow(self) -> None:
        self._successes += 1
        if self._successes >= int(self.limit):
            self.limit, self._successes = min(float(self.maximum), self.limit + 1), 0


def retry_after(header: str | None, *, now: datetime | None = None) -> float | None:
    """Return the seconds a ``Retry-After`` header asks for (number or HTTP date), 0 to 120, or ``None``."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            then = parsedate_to_datetime(header)
        except ValueError:
            return None
        then = then if then.tzinfo else then.replace(tzinfo=UTC)
        seconds = (then - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else None  # "nan" is a float


def backoff_delay(attempt: int, *, base: float, seed: int) -> float:
    """Return the wait after try number ``attempt`` (from 0): doubled each time, times a seeded 0.5 to 1."""
    jitter = random.Random(f"{seed}/{attempt}").uniform(0.5, 1.0)
    return min(LONGEST_BACKOFF, base * 2.0**attempt) * jitter


@dataclass(slots=True)
class Counters:
    """What happened on the wire, tries counted one by one."""

    calls: int = 0
    ok: int = 0
    throttled: int = 0  # HTTP 429
    server_errors: int = 0  # HTTP 5xx, 409 and 408
    timeouts: int = 0
    disconnects: int = 0
    malformed: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)

    def failures(self) -> str:
        """Return the kinds of failure that happened, with their counts, for an error message."""
        kinds = ("throttled", "server_errors", "timeouts", "disconnects", "malformed")
        seen = [f"{getattr(self, kind)} {kind.replace('_', ' ')}" for kind in kinds if getattr(self, kind)]
        return ", ".join(seen) or "none"
