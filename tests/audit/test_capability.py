"""Bits per byte, perplexity and lm-eval's numbers, and their differences."""

import math

import pytest

from toxoid.audit.capability import task_rows, task_scores, text_rows, text_scores
from toxoid.audit.lm_eval import LMEvalScore
from toxoid.audit.rates import Settings

SETTINGS = Settings(resamples=300)
COSTS = {f"t/{n}": (10.0 + n, 5 + n % 3, 40) for n in range(20)}


def score(value, stderr=0.01, task="mmlu"):
    return LMEvalScore(task, "acc", "none", value, stderr, 100, True)


def test_scores_are_the_sums_over_all_texts():
    bits, perplexity = text_scores(COSTS, SETTINGS)
    nats, tokens = sum(c[0] for c in COSTS.values()), sum(c[1] for c in COSTS.values())
    assert bits["value"] == pytest.approx(nats / math.log(2) / 800)
    assert perplexity["value"] == pytest.approx(math.exp(nats / tokens))
    assert perplexity["ci_low"] < perplexity["value"] < perplexity["ci_high"]


def test_a_model_does_not_differ_from_itself():
    for row in text_rows(COSTS, COSTS, SETTINGS):
        assert (row["difference"], row["ci_low"], row["ci_high"]) == (0.0, 0.0, 0.0)


def test_the_difference_of_perplexity_is_relative_and_paired():
    worse = {name: (nats + 0.1 * tokens, tokens, size) for name, (nats, tokens, size) in COSTS.items()}
    _, row = text_rows(COSTS, worse, SETTINGS)
    assert row["relative"]
    assert row["difference"] == pytest.approx(math.expm1(0.1))
    assert row["ci_high"] - row["ci_low"] < 1e-9  # every text costs the same more: no noise is left


def test_only_texts_of_both_are_compared():
    rows = text_rows(COSTS, {name: COSTS[name] for name in list(COSTS)[:5]}, SETTINGS)
    assert {row["n"] for row in rows} == {5}


def test_tasks_of_lm_eval_differ_by_both_errors():
    rows = task_rows(
        task_scores([score(0.5)], SETTINGS),
        task_scores([score(0.6), score(0.1, task="x")], SETTINGS),
        SETTINGS,
    )
    (row,) = rows
    assert row["difference"] == pytest.approx(0.1)
    assert row["ci_high"] - row["difference"] == pytest.approx(1.96 * math.hypot(0.01, 0.01), abs=1e-4)
    assert not row["paired"]


def test_without_standard_errors_there_is_no_interval():
    (found,) = task_scores([score(0.5, None)], SETTINGS)
    assert (found["value"], found["ci_low"], found["ci_high"]) == (0.5, None, None)
