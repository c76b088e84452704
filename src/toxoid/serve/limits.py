"""Rate limits: a bucket of tokens for each key, filled at its rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from toxoid.serve.keys import KeySection
from toxoid.serve.settings import LimitsSection


@dataclass(slots=True)
class _Bucket:
    level: float
    seen: float


@dataclass(slots=True)
class RateLimit:
    """How often each key may ask.

    Args:
        limits: ``per_minute`` and ``burst`` are read.
        clock: Seconds that only grow.
    """

    limits: LimitsSection
    clock: Callable[[], float] = time.monotonic
    _buckets: dict[str, _Bucket] = field(default_factory=dict)

    def take(self, key: KeySection | None) -> float:
        """Take one request from a key's bucket; return 0, or the seconds until there is one to take.

        Args:
            key: Who asks; ``None`` where there are no keys: all clients share one bucket.
        """
        rate = (key.per_minute if key else None) or self.limits.per_minute
        if rate is None:
            return 0.0
        now, most = self.clock(), float(self.limits.burst)
        bucket = self._buckets.setdefault(key.name if key else "", _Bucket(most, now))
        bucket.level = min(bucket.level + (now - bucket.seen) * rate / 60, most)
        bucket.seen = now
        if bucket.level < 1:
            return (1 - bucket.level) * 60 / rate
        bucket.level -= 1
        return 0.0
