"""Adaptive concurrency, waits and counts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.engines.endpoint_pace import AdaptiveLimit, Counters, backoff_delay, retry_after

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def never() -> bool:
    return False


def play(limit, outcomes):
    for outcome in outcomes:
        limit.release(limit.acquire(never), outcome)
    return limit.limit


def test_limit_starts_at_twenty_or_the_maximum():
    assert AdaptiveLimit(32).limit == 20
    assert AdaptiveLimit(4).limit == 4


def test_too_many_requests_cuts_by_a_fifth():
    assert play(AdaptiveLimit(32), ["throttled"]) == 16


def test_one_wave_cuts_once():
    """Three calls leave together and are all throttled: 20 * 0.8, not 20 * 0.8 ** 3."""
    limit = AdaptiveLimit(32)
    tickets = [limit.acquire(never) for _ in range(3)]
    for ticket in tickets:
        limit.release(ticket, "throttled")
    assert limit.limit == 16


def test_limit_never_falls_below_one():
    assert play(AdaptiveLimit(2), ["throttled"] * 20) == 1


def test_a_window_of_successes_adds_one():
    limit = AdaptiveLimit(32)
    assert play(limit, ["ok"] * 19) == 20
    assert play(limit, ["ok"]) == 21


def test_server_error_cuts_nothing_and_puts_off_the_growth():
    """The window of 20 starts again, one window later: 20 + 20 successes for one more."""
    limit = AdaptiveLimit(32)
    assert play(limit, ["ok"] * 19 + ["failed"] + ["ok"] * 39) == 20
    assert play(limit, ["ok"]) == 21


@given(st.lists(st.sampled_from(["ok", "throttled", "failed"]), max_size=200), st.integers(1, 40))
def test_limit_stays_between_one_and_the_maximum(outcomes, maximum):
    assert 1 <= play(AdaptiveLimit(maximum), outcomes) <= maximum


def test_waiting_for_a_place_ends_when_stopped():
    limit = AdaptiveLimit(1)
    limit.acquire(never)
    polls = iter([False, True])
    assert limit.acquire(lambda: next(polls)) is None


def test_pause_holds_everybody_back():
    limit = AdaptiveLimit(4)
    limit.release(limit.acquire(never), "throttled", pause=60)
    polls = iter([False, True])
    assert limit.acquire(lambda: next(polls)) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("99999", 120.0),
        ("inf", 120.0),
        ("nan", None),
        ("soon", None),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Thu, 01 Jan 2026 12:00:30 -0000", 30.0),
    ],
)
def test_retry_after_takes_seconds_and_dates(header, seconds):
    assert retry_after(header, now=NOW) == seconds


@given(st.text(max_size=40))
def test_retry_after_takes_any_header(header):
    seconds = retry_after(header, now=NOW)
    assert seconds is None or 0 <= seconds <= 120


def test_backoff_doubles_within_its_jitter():
    delays = [backoff_delay(attempt, base=1, seed=0) for attempt in range(4)]
    assert all(0.5 * 2**i <= delay <= 2**i for i, delay in enumerate(delays))


def test_backoff_is_seeded_and_differs_between_requests():
    assert backoff_delay(1, base=1, seed=3) == backoff_delay(1, base=1, seed=3)
    assert backoff_delay(1, base=1, seed=3) != backoff_delay(1, base=1, seed=4)


def test_failures_name_what_happened():
    assert Counters(throttled=2, server_errors=1).failures() == "2 throttled, 1 server errors"
