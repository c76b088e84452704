"""Cached judge: every verdict is made once and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from toxoid.data.schemas import Exchange, as_dicts
from toxoid.judges.base import Aspect, Judge, Outcome, Verdict
from toxoid.store.keys import content_key

KIND = "verdict"
CHUNK = 256
"""Exchanges judged between two commits: what a killed run loses at most."""


class RecordStore(Protocol):
    """Where verdicts are kept; :class:`toxoid.store.records.Records` is one."""

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return the payloads of those ``keys`` that are there."""

    def put_many(self, rows: Sequence[tuple[str, str, Any]]) -> object:
        """Store (key, kind, payload) rows in one transaction; a key that is there keeps its payload."""


class CachedJudge:
    """Answers from ``records`` what is there, and asks ``judge`` for the rest, each different exchange once.

    Args:
        judge: The judge to spare.
        records: Where verdicts are kept, keyed by the judge's identity, the aspect and the exchange.
    """

    def __init__(self, judge: Judge, records: RecordStore) -> None:
        self.inner = judge
        self.records = records
        self.name = judge.name
        self.aspects = judge.aspects

    def identity(self) -> dict[str, Any]:
        """Return the inner judge's identity: a cache changes nothing."""
        return self.inner.identity()

    def judge(self, exchanges: Sequence[Exchange], aspect: Aspect) -> list[Verdict]:
        """Return one verdict per exchange, in order.

        Raises:
            ValueError: ``aspect`` is not one of :attr:`aspects`.
        """
        if aspect not in self.aspects:
            raise ValueError(f"{self.name} answers {sorted(self.aspects)}, not {aspect!r}")
        identity = content_key(self.inner.identity())
        keys = [verdict_key(identity, aspect, exchange) for exchange in exchanges]
        known = self.records.get_many(list(dict.fromkeys(keys)))
        missing = {key: exchange for key, exchange in zip(keys, exchanges, strict=True) if key not in known}
        todo = list(missing.items())
        for start in range(0, len(todo), CHUNK):
            known.update(self._make(todo[start : start + CHUNK], aspect))
        return [from_payload(known[key]) for key in keys]

    def _make(self, todo: Sequence[tuple[str, Exchange]], aspect: Aspect) -> dict[str, Any]:
        verdicts = self.inner.judge([exchange for _, exchange in todo], aspect)
        fresh = {key: to_payload(verdict) for (key, _), verdict in zip(todo, verdicts, strict=True)}
        self.records.put_many([(key, KIND, payload) for key, payload in fresh.items()])
        return fresh


def verdict_key(identity: str, aspect: Aspect, exchange: Exchange) -> str:
    """Return the record key of one verdict; ``identity`` is the key of the judge's identity."""
    request = exchange.request
    return content_key(
        KIND,
        identity,
        aspect,
        # The id is left out: the same exchange in two data sets has one verdict.
        [request.prompt, request.kind, request.category, request.target, request.reference],
        dict(request.metadata),
        as_dicts(exchange.conversation),
        exchange.prefill,
        exchange.completion,
        exchange.truncated,
    )


def to_payload(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as JSON values."""
    return {**asdict(verdict), "outcome": verdict.outcome.value}


def from_payload(payload: Mapping[str, Any]) -> Verdict:
    """Return the verdict stored as ``payload``."""
    evidence = tuple((start, end) for start, end in payload.get("evidence", ()))
    return Verdict(**{**payload, "outcome": Outcome(payload["outcome"]), "evidence": evidence})
