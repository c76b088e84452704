from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toxoid.engines.classifiers.inference import log_softmax, softmax
from toxoid.errors import UsageError
from toxoid.stats.agreement import expected_calibration_error
from toxoid.training.calibration import check_threshold, choose_threshold, fit_temperature


def made_up(count: int, seed: int = 0, labels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return logits that are calibrated by construction, and labels drawn from them."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, labels))
    drawn = (softmax(logits).cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)
    return logits, drawn


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_what_logits_were_multiplied_by(factor: float, labels: int):
    logits, drawn = made_up(20_000, labels=labels)
    assert fit_temperature(log_softmax(factor * logits), drawn) == pytest.approx(factor, rel=0.05)


def test_a_temperature_lowers_the_calibration_error_of_a_classifier_too_sure_of_itself():
    logits, drawn = made_up(2_000, seed=1)
    logs = log_softmax(5 * logits)
    truth = drawn.astype(np.float64)
    before, after = (softmax(logs / t)[:, 1] for t in (1.0, fit_temperature(logs, drawn)))
    errors = [expected_calibration_error(scores, truth) for scores in (before, after)]
    assert errors[1] < errors[0] / 3


def test_the_temperature_is_the_best_of_a_grid():
    logits, drawn = made_up(3_000, seed=2)
    logs = log_softmax(3 * logits)

    def loss(temperature: float) -> float:
        return -float(np.log(softmax(logs / temperature)[np.arange(3_000), drawn]).mean())

    assert loss(fit_temperature(logs, drawn)) <= min(loss(t) for t in np.geomspace(0.05, 20, 200)) + 1e-3


def test_a_classifier_without_a_mistake_on_n_texts_claims_no_more_than_n_texts_can_show():
    """All logits alike: the best probability of the right label is its smoothed share, (n + 1) / (n + 2)."""
    for n in (1, 8):
        logs = log_softmax(np.repeat([[4.0, 0.0], [0.0, 4.0]], n, axis=0))
        labels = np.repeat([0, 1], n)
        found = softmax(logs / fit_temperature(logs, labels))
        assert found[0, 0] == pytest.approx((n + 1) / (n + 2), abs=1e-3)


def rates(scores: np.ndarray, truth: np.ndarray, threshold: float) -> tuple[float, float]:
    said = scores >= threshold
    return float(said[truth].mean()), float((~said)[~truth].mean())


scored = st.lists(st.tuples(st.floats(0.01, 1), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({hit for _, hit in rows}) == 2
)


@settings(max_examples=200, deadline=None)
@given(scored, st.floats(0.05, 0.95))
def test_the_recall_rule_keeps_the_recall_with_the_best_specificity(
    rows: list[tuple[float, bool]], recall: float
):
    scores, truth = np.array([s for s, _ in rows]), np.array([hit for _, hit in rows])
    found = rates(scores, truth, choose_threshold({"recall": recall}, scores, truth))
    others = [rates(scores, truth, t) for t in scores]
    assert found[0] >= recall
    assert all(specificity <= found[1] for sensitivity, specificity in others if sensitivity >= recall)


@settings(max_examples=200, deadline=None)
@given(scored)
def test_the_balanced_rule_has_the_best_mean_of_sensitivity_and_specificity(rows: list[tuple[float, bool]]):
    scores, truth = np.array([s for s, _ in rows]), np.array([hit for _, hit in rows])
    found = choose_threshold("balanced", scores, truth)
    assert 0 < found <= 1
    assert sum(rates(scores, truth, found)) >= max(sum(rates(scores, truth, t)) for t in scores) - 1e-9


def test_a_number_is_its_own_threshold():
    assert choose_threshold(0.3, np.array([0.1, 0.9]), np.array([False, True])) == 0.3


def test_the_threshold_lies_between_scores():
    scores, truth = np.array([0.2, 0.4, 0.8, 0.9]), np.array([False, False, True, True])
    assert choose_threshold("balanced", scores, truth) == pytest.approx(0.6)


@pytest.mark.parametrize("rule", [0.5, "balanced", {"recall": 0.8}])
def test_rules_are_accepted(rule: object):
    check_threshold(rule)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "rule",
    [0.0, 1.0, -1, math.nan, "best", {}, {"precision": 0.8}, {"recall": 1.2}, {"recall": 0.8, "x": 1}, True],
)
def test_what_is_no_rule_is_refused(rule: object):
    with pytest.raises(UsageError, match="the threshold is"):
        check_threshold(rule)  # type: ignore[arg-type]
