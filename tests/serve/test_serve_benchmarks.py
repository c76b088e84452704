"""The benchmarks of the server: how they count, on turns and replies that are made up."""

from __future__ import annotations

import pytest
from benchmarks.serve import TOKENS, Turn, headlines, summary
from benchmarks.serve_soak import Soak, growth
from benchmarks.serving import Reply


def turn(count, *, seconds, cpu):
    each = Reply(200, seconds / count, seconds / count / 2, "length", True)
    return Turn([each] * count, seconds, cpu)


def turns(**more):
    made = {
        "plain@1": [turn(4, seconds=4.0, cpu=4.0)],
        "protected@1": [turn(4, seconds=5.0, cpu=6.0)],
        "plain@32": [turn(32, seconds=8.0, cpu=8.0)],
        "protected@32": [turn(32, seconds=16.0, cpu=8.0)],
        "whole@32": [turn(32, seconds=8.0, cpu=4.0)],
        "generate@32": [Turn([Reply()] * 32, 4.0, 4.0)],
    }
    return made | more


def test_ratios_are_of_latencies_and_of_tokens_per_second():
    found = summary(turns(), {})
    assert found["protected_latency_ratio"] == 1.25
    assert found["protected_latency_ratio_cpu"] == 1.5
    assert found["throughput_vs_sequential"] == 32 / 16 / (4 / 5)
    assert found["throughput_vs_generate"] == 0.5
    assert found["throughput_vs_generate_cpu"] == 1.0
    assert found["tokens_per_second"]["plain@1"] == TOKENS


def test_a_peer_that_is_not_there_has_no_ratio_and_of_two_the_better_one_counts():
    assert headlines(summary(turns(), {}))["throughput_vs_transformers_serve"] is None
    peers = {
        "transformers@32": [turn(32, seconds=32.0, cpu=32.0)],
        "transformers_batching@32": [turn(32, seconds=16.0, cpu=8.0)],
    }
    found = summary(turns(**peers), {})
    assert (found["throughput_vs_transformers_serve"], found["throughput_vs_transformers_serve_cpu"]) == (
        2.0,
        2.0,
    )


@pytest.mark.parametrize(
    ("way", "reply", "lost"),
    [
        ("stream", Reply(200, 1.0, 0.5, "stop", True), False),
        ("stream", Reply(200, 1.0, 0.5, "", False), True),
        ("whole", Reply(500), True),
        ("whole", Reply(429), False),
        ("nonsense", Reply(400), False),
        ("nonsense", Reply(200, 1.0, None, "stop", True), True),
    ],
)
def test_a_request_is_lost_unless_it_was_answered_or_refused(way, reply, lost):
    soak = Soak(None, ())
    soak.note(way, reply)
    assert (len(soak.lost), sum(soak.ends.values())) == (int(lost), int(not lost))


def test_growth_leaves_the_beginning_out():
    assert growth([1, 1, 100, 100, *[100] * 14, 110, 110]) == pytest.approx(0.1)
