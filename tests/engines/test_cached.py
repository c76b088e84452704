"""Tests of the cached engine, on an engine that only counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.helpers.tiny_models import tiny_loaded
from toxoid.data.schemas import user
from toxoid.engines.base import Completion, GenerationRequest, Sampling
from toxoid.engines.cached import CachedEngine, from_payload, request_key, to_payload
from toxoid.engines.local import LocalEngine
from toxoid.store.records import Records

ASKS = [GenerationRequest(user(f"question {i}"), seed=i) for i in range(10)]


class Fake:
    """Answers with a running number, so that a second answer to one request is another."""

    name = "fake"

    def __init__(self, granule=4, *, die_after=None, silent=False):
        self.granule, self.die_after, self.silent = granule, die_after, silent
        self.asked: list[str] = []

    def identity(self):
        return {"kind": "fake"}

    def generate(self, requests, on_done=None):
        results = []
        for start in range(0, len(requests), self.granule):
            group = requests[start : start + self.granule]
            if self.die_after is not None and len(self.asked) + len(group) > self.die_after:
                raise KeyboardInterrupt
            for request in group:
                self.asked.append(request.conversation[-1].content)
                results.append([Completion(f"{len(self.asked)}", "stop", 3, 4, {"k": [1]})] * request.n)
            if on_done is not None and not self.silent:
                for index in range(start, start + len(group)):
                    on_done(index, results[index])
        return results


class Memory:
    """A record store in memory that remembers its transactions."""

    def __init__(self):
        self.rows, self.sizes = {}, []

    def get_many(self, keys):
        return {key: self.rows[key] for key in keys if key in self.rows}

    def put_many(self, rows):
        self.sizes.append(len(rows))
        for key, _kind, payload in rows:
            self.rows.setdefault(key, payload)


def texts(results):
    return [completion.text for completions in results for completion in completions]


def test_a_second_call_asks_nothing_and_gives_the_same():
    engine, store = Fake(), Memory()
    first = CachedEngine(engine, store).generate(ASKS)
    assert CachedEngine(engine, store).generate(ASKS) == first
    assert len(engine.asked) == 10


def test_records_are_committed_granule_by_granule():
    store = Memory()
    CachedEngine(Fake(), store).generate(ASKS)
    assert store.sizes == [4, 4, 2]


def test_an_interrupted_call_keeps_whole_granules_and_continues():
    store, first, second = Memory(), Fake(die_after=5), Fake()
    with pytest.raises(KeyboardInterrupt):
        CachedEngine(first, store).generate(ASKS)
    assert len(store.rows) == 4
    CachedEngine(second, store).generate(ASKS)
    assert second.asked == [f"question {i}" for i in range(4, 10)]


def test_a_granule_with_a_hole_is_asked_again_as_a_whole_and_records_win():
    store, engine = Memory(), Fake()
    cached = CachedEngine(engine, store)
    before = cached.generate(ASKS)
    del store.rows[list(store.rows)[5]]
    after = cached.generate(ASKS)
    assert engine.asked[10:] == [f"question {i}" for i in range(4, 8)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [i != 5 for i in range(10)]


def test_missing_granules_keep_their_cuts():
    store, engine = Memory(), Fake()
    cached = CachedEngine(engine, store)
    cached.generate(ASKS)
    keys = list(store.rows)
    del store.rows[keys[1]], store.rows[keys[9]]
    cached.generate(ASKS)
    assert engine.asked[10:] == [f"question {i}" for i in (0, 1, 2, 3, 8, 9)]
    assert store.sizes[3:] == [1, 1]


def test_done_is_called_once_for_every_request_recorded_or_not():
    store, calls = Memory(), {}
    cached = CachedEngine(Fake(), store)
    cached.generate(ASKS[:4])

    def note(index, completions):
        assert index not in calls
        assert len(store.rows) >= min(4 * (index // 4 + 1), 10)  # on disk before anyone hears of it
        calls[index] = completions

    results = cached.generate(ASKS, note)
    assert [calls[index] for index in range(10)] == results


def test_an_engine_that_reports_nothing_along_the_way_is_recorded_too():
    store = Memory()
    calls = []
    results = CachedEngine(Fake(silent=True), store).generate(ASKS, lambda index, _: calls.append(index))
    assert (len(results), len(store.rows), calls) == (10, 10, list(range(10)))


def test_a_request_asked_twice_has_one_answer():
    twice = [ASKS[0], ASKS[1], ASKS[0], ASKS[2], ASKS[0]]
    store = Memory()
    results = CachedEngine(Fake(), store).generate(twice)
    assert results[0] == results[2] == results[4]
    assert len(store.rows) == 3
    assert CachedEngine(Fake(), store).generate(twice) == results


@pytest.mark.parametrize(
    "other",
    [
        {"conversation": user("question 0", "system")},
        {"prefill": "Sure"},
        {"n": 2},
        {"seed": 1},
        {"sampling": Sampling(temperature=0.5)},
        {"sampling": Sampling(top_p=0.5)},
        {"sampling": Sampling(max_tokens=3)},
        {"sampling": Sampling(stop=("a",))},
    ],
)
def test_whatever_changes_the_request_changes_the_key(other):
    assert request_key("e", replace(ASKS[0], **other)) != request_key("e", ASKS[0])


def test_the_engine_is_part_of_the_key():
    assert request_key("e", ASKS[0]) != request_key("f", ASKS[0])


def test_a_whole_number_as_temperature_is_the_same_request():
    whole, real = (replace(ASKS[0], sampling=Sampling(temperature=t)) for t in (1, 1.0))
    assert request_key("e", whole) == request_key("e", real)


def test_completions_survive_the_payload():
    completions = [
        Completion("a\ud800\n", "content_filter", 1, 2, {"error": "x"}),
        Completion("", "length", 0, 0),
    ]
    assert from_payload(to_payload(completions)) == completions


def test_a_cache_is_as_its_engine():
    cached = CachedEngine(Fake(granule=7), Memory())
    assert (cached.name, cached.granule, cached.identity()) == ("fake", 7, {"kind": "fake"})


def test_a_killed_run_on_a_real_model_and_store_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(LocalEngine, "granule", 3)
    loaded = tiny_loaded()
    asks = [replace(ask, n=2, sampling=Sampling(max_tokens=5)) for ask in ASKS]
    whole = LocalEngine(loaded).generate(asks)

    def kill(index, _completions):
        if index == 4:
            raise KeyboardInterrupt

    with Records(tmp_path / "records.sqlite") as store:
        with pytest.raises(KeyboardInterrupt):
            CachedEngine(LocalEngine(loaded), store).generate(asks, kill)
        assert CachedEngine(LocalEngine(loaded), store).generate(asks) == whole
