"""The judge that keeps its verdicts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import toxoid.judges.cached as cached
from toxoid.data.schemas import Exchange, Request, user
from toxoid.judges.base import Outcome, Verdict
from toxoid.judges.cached import CachedJudge, from_payload, to_payload, verdict_key
from toxoid.store.records import Records


class Memory:
    """A record store in memory."""

    def __init__(self):
        self.rows = {}
        self.commits = 0

    def get_many(self, keys):
        return {key: self.rows[key][1] for key in keys if key in self.rows}

    def put_many(self, rows):
        self.commits += 1
        for key, kind, payload in rows:
            self.rows.setdefault(key, (kind, payload))


class Counting:
    """A judge that counts what it is asked; a reply of "x" is a hit."""

    name = "counting"
    aspects = frozenset({"harmful", "refusal"})

    def __init__(self, version=1):
        self.version = version
        self.asked = []

    def identity(self):
        return {"judge": self.name, "version": self.version}

    def judge(self, exchanges, aspect):
        self.asked += exchanges
        return [
            Verdict(Outcome.HIT if e.completion == "x" else Outcome.MISS, 0.5, e.completion)
            for e in exchanges
        ]


def exchange(reply="x", request_id="set/1"):
    return Exchange(Request(request_id, "q", metadata={"policy": ("a", "b")}), user("q"), reply)


def test_verdicts_are_those_of_the_judge_in_order():
    items = [exchange("x"), exchange("y"), exchange("x")]
    assert CachedJudge(Counting(), Memory()).judge(items, "harmful") == Counting().judge(items, "harmful")


def test_second_time_nothing_is_asked():
    records, first, second = Memory(), Counting(), Counting()
    found = CachedJudge(first, records).judge([exchange()], "harmful")
    assert CachedJudge(second, records).judge([exchange()], "harmful") == found
    assert second.asked == []


def test_equal_exchanges_are_asked_once():
    judge = Counting()
    CachedJudge(judge, Memory()).judge([exchange(), exchange(), exchange("y")], "harmful")
    assert len(judge.asked) == 2


def test_only_what_is_missing_is_asked():
    records, judge = Memory(), Counting()
    CachedJudge(Counting(), records).judge([exchange("x")], "harmful")
    CachedJudge(judge, records).judge([exchange("x"), exchange("y")], "harmful")
    assert [e.completion for e in judge.asked] == ["y"]


def test_aspects_are_kept_apart():
    judge = Counting()
    kept = CachedJudge(judge, Memory())
    kept.judge([exchange()], "harmful")
    kept.judge([exchange()], "refusal")
    assert len(judge.asked) == 2


def test_another_identity_is_asked_anew():
    records, newer = Memory(), Counting(version=2)
    CachedJudge(Counting(), records).judge([exchange()], "harmful")
    CachedJudge(newer, records).judge([exchange()], "harmful")
    assert len(newer.asked) == 1


def test_request_id_does_not_matter():
    assert verdict_key("j", "harmful", exchange(request_id="a/1")) == verdict_key(
        "j", "harmful", exchange(request_id="b/2")
    )


@pytest.mark.parametrize(
    "change",
    [
        {"completion": "z"},
        {"prefill": "Sure"},
        {"truncated": True},
        {"conversation": user("q", "system")},
        {"request": Request("set/1", "other")},
        {"request": Request("set/1", "q", "benign", metadata={"policy": ("a", "b")})},
        {"request": Request("set/1", "q", metadata={"policy": ("a",)})},
    ],
)
def test_everything_a_judge_sees_is_in_the_key(change):
    assert verdict_key("j", "harmful", exchange()) != verdict_key(
        "j", "harmful", replace(exchange(), **change)
    )


def test_verdicts_are_committed_in_chunks(monkeypatch):
    monkeypatch.setattr(cached, "CHUNK", 2)
    records = Memory()
    CachedJudge(Counting(), records).judge([exchange(str(i)) for i in range(5)], "harmful")
    assert records.commits == 3


def test_chunks_before_a_failure_are_kept(monkeypatch):
    class Failing(Counting):
        def judge(self, exchanges, aspect):
            if len(self.asked) >= 2:
                raise RuntimeError("gone")
            return super().judge(exchanges, aspect)

    monkeypatch.setattr(cached, "CHUNK", 2)
    records = Memory()
    with pytest.raises(RuntimeError):
        CachedJudge(Failing(), records).judge([exchange(str(i)) for i in range(5)], "harmful")
    assert len(records.rows) == 2


def test_identity_and_aspects_are_the_inner_judges():
    kept = CachedJudge(Counting(), Memory())
    assert (kept.identity(), kept.aspects, kept.name) == (Counting().identity(), Counting.aspects, "counting")


def test_another_aspect_is_refused():
    with pytest.raises(ValueError, match="valid"):
        CachedJudge(Counting(), Memory()).judge([], "valid")


@given(st.sampled_from(Outcome), st.none() | st.floats(0, 1), st.text())
def test_payload_brings_the_verdict_back(outcome, score, reason):
    verdict = Verdict(outcome, score, reason)
    assert from_payload(to_payload(verdict)) == verdict


def test_real_store_keeps_verdicts(tmp_path):
    items = [exchange("x"), exchange("\ud800")]
    with Records(tmp_path / "records.sqlite") as records:
        found = CachedJudge(Counting(), records).judge(items, "harmful")
    silent = Counting()
    with Records(tmp_path / "records.sqlite") as records:
        assert CachedJudge(silent, records).judge(items, "harmful") == found
        assert records.kinds() == {"verdict": 2}
    assert silent.asked == []
