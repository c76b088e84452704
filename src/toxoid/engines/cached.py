"""Cached engine: every completion is made once and kept, so that a killed run continues where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from toxoid.data.schemas import as_dicts
from toxoid.engines.base import Completion, Engine, GenerationRequest, OnDone
from toxoid.engines.wrapped import WrappedEngine
from toxoid.store.keys import content_key

KIND = "generation"


class RecordStore(Protocol):
    """Where completions are kept; :class:`toxoid.store.records.Records` is one."""

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return the payloads of those ``keys`` that are there."""

    def put_many(self, rows: Sequence[tuple[str, str, Any]]) -> object:
        """Store (key, kind, payload) rows in one transaction; a key that is there keeps its payload."""


class CachedEngine(WrappedEngine):
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
        super().__init__(engine)
        self.records = records

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Return ``n`` completions per request, in the order of ``requests``.

        ``on_done`` hears of wholly recorded granules first, then of the others as they are made.
        """
        identity = content_key(self.engine.identity())
        keys = [request_key(identity, request) for request in requests]
        known = self.records.get_many(list(dict.fromkeys(keys)))
        missing: list[range] = []
        for start in range(0, len(requests), self.granule):
            group = range(start, min(start + self.granule, len(requests)))
            if any(keys[index] not in known for index in group):
                missing.append(group)
            else:
                _announce(group, keys, known, on_done)
        if missing:
            self._make(missing, requests, keys, known, on_done)
        return [from_payload(known[key]) for key in keys]

    def _make(
        self,
        groups: Sequence[range],
        requests: Sequence[GenerationRequest],
        keys: Sequence[str],
        known: dict[str, Any],
        on_done: OnDone | None,
    ) -> None:
        """Generate ``groups`` of requests and add them to ``known``, each as soon as it is whole.

        All groups go to the inner engine in one call (an endpoint works on many at once). They lie end to
        end and only the last of a call can be short, so the inner engine cuts them where they were cut.
        """
        indices = [index for group in groups for index in group]
        made: dict[int, list[Completion]] = {}
        left = [len(group) for group in groups]

        def collect(place: int, completions: list[Completion]) -> None:
            index, number = indices[place], place // self.granule
            if index in made:
                return
            made[index] = completions
            left[number] -= 1
            if left[number] == 0:
                self._commit(groups[number], keys, made, known)
                _announce(groups[number], keys, known, on_done)

        results = self.engine.generate([requests[index] for index in indices], collect)
        for place, completions in enumerate(results):  # for an engine that reports nothing along the way
            collect(place, completions)

    def _commit(
        self,
        group: range,
        keys: Sequence[str],
        made: Mapping[int, list[Completion]],
        known: dict[str, Any],
    ) -> None:
        fresh: dict[str, Any] = {}
        for index in group:
            if keys[index] not in known:
                fresh.setdefault(keys[index], to_payload(made[index]))
        self.records.put_many([(key, KIND, payload) for key, payload in fresh.items()])
        known.update(fresh)


def request_key(identity: str, request: GenerationRequest) -> str:
    """Return the record key of ``request`` to an engine whose identity has the key ``identity``."""
    sampling = request.sampling
    return content_key(
        KIND,
        identity,
        as_dicts(request.conversation),
        request.prefill,
        # 1 and 1.0 are two values in JSON and one temperature.
        [float(sampling.temperature), float(sampling.top_p), sampling.max_tokens, list(sampling.stop)],
        request.n,
        request.seed,
    )


def to_payload(completions: Sequence[Completion]) -> list[dict[str, Any]]:
    """Return the completions of one request as JSON values."""
    return [
        {
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "metadata": dict(completion.metadata),
        }
        for completion in completions
    ]


def from_payload(payload: Sequence[Mapping[str, Any]]) -> list[Completion]:
    """Return the completions stored as ``payload``."""
    return [Completion(**fields) for fields in payload]


def _announce(group: range, keys: Sequence[str], known: Mapping[str, Any], on_done: OnDone | None) -> None:
    if on_done is not None:
        for index in group:
            on_done(index, from_payload(known[keys[index]]))
