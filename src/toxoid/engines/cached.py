"""Cached engine: every completion is made once and kept, so that a killed run continues where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from toxoid.engines.base import Completion, Engine, GenerationRequest, OnDone
from toxoid.store.keys import content_key

KIND = "generation"


class RecordStore(Protocol):
    """Where completions are kept; :class:`toxoid.store.records.Records` is one."""

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return the payloads of those ``keys`` that are there."""

    def put_many(self, rows: Sequence[tuple[str, str, Any]]) -> object:
        """Store (key, kind, payload) rows in one transaction; a key that is there keeps its payload."""


class CachedEngine:
    """Answers from ``records`` what is there, and asks ``engine`` for the rest.

    A granule of the inner engine is asked again as a whole if any of its requests is missing, so that a
    resumed run computes exactly what the uninterrupted one would have; what was already recorded stays as it
    was and is what the caller gets. New completions are recorded granule by granule, before ``on_done``
    hears of them.

    Args:
        engine: The engine to spare.
        records: Where completions are kept, keyed by the engine's identity and the request.
    """

    def __init__(self, engine: Engine, records: RecordStore) -> None:
        """Read nothing yet."""
        self.engine = engine
        self.records = records
        self.name = engine.name
        self.granule = engine.granule

    def identity(self) -> dict[str, Any]:
        """Return the inner engine's identity: a cache changes nothing."""
        return self.engine.identity()

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Return ``n`` completions per request, in the order of ``requests``.

        ``on_done`` hears of wholly recorded granules first, then of the others as they are made.
        """
        identity = self.engine.identity()
        keys = [request_key(identity, request) for request in requests]
        known = self.records.get_many(list(dict.fromkeys(keys)))
        missing: list[int] = []
        for start in range(0, len(requests), self.granule):
            group = range(start, min(start + self.granule, len(requests)))
            if any(keys[index] not in known for index in group):
                missing += group
            elif on_done is not None:
                for index in group:
                    on_done(index, from_payload(known[keys[index]]))
        if missing:
            self._make([(index, keys[index]) for index in missing], requests, known, on_done)
        return [from_payload(known[key]) for key in keys]

    def _make(
        self,
        wanted: Sequence[tuple[int, str]],
        requests: Sequence[GenerationRequest],
        known: dict[str, Any],
        on_done: OnDone | None,
    ) -> None:
        """Generate whole granules in one call of the inner engine, and add them to ``known``.

        The missing granules lie end to end; all but the last of a call are full, so the inner engine cuts
        them where they were cut before.
        """
        made: dict[int, list[Completion]] = {}
        group_of = {place: place // self.granule for place in range(len(wanted))}
        left = _counts(group_of.values())

        def collect(place: int, completions: list[Completion]) -> None:
            made[place] = completions
            group = group_of[place]
            left[group] -= 1
            if left[group] == 0:
                start = group * self.granule
                self._commit(range(start, min(start + self.granule, len(wanted))), wanted, made, known, on_done)

        self.engine.generate([requests[index] for index, _ in wanted], collect)

    def _commit(
        self,
        places: range,
        wanted: Sequence[tuple[int, str]],
        made: Mapping[int, list[Completion]],
        known: dict[str, Any],
        on_done: OnDone | None,
    ) -> None:
        fresh: dict[str, Any] = {}
        for place in places:
            key = wanted[place][1]
            if key not in known:
                fresh.setdefault(key, to_payload(made[place]))
        self.records.put_many([(key, KIND, payload) for key, payload in fresh.items()])
        known.update(fresh)
        for place in places:
            index, key = wanted[place]
            if on_done is not None:
                on_done(index, from_payload(known[key]))
