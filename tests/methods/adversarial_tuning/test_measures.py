"""Tests of what a round's judge is measured by, and of the frozen slices."""

from __future__ import annotations

import numpy as np
import pytest

from tests.methods.adversarial_tuning.fakes import LABELS, WordJudge
from toxoid.errors import UsageError
from toxoid.methods.adversarial_tuning.holdouts import (
    CONTENTIOUS,
    MISSED,
    Holdouts,
    chosen,
    load_holdouts,
    missed_by,
)
from toxoid.methods.adversarial_tuning.measures import measure
from toxoid.methods.adversarial_tuning.prompts import LabelledPrompt, read_prompts, write_prompts
from toxoid.stats.agreement import area_under_roc, expected_calibration_error


class ScoreJudge:
    name = "scores"
    labels = LABELS

    def __init__(self, scores):
        self.scores = np.array(scores)

    def probabilities(self, texts):
        return np.stack([1 - self.scores, self.scores], axis=1)[: len(texts)]


def prompts(labels, groups=None):
    groups = groups or [""] * len(labels)
    return [
        LabelledPrompt(f"text {i}", bool(label), "held-out", group)
        for i, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]


def test_numbers_are_those_of_the_plain_formulas():
    rng = np.random.default_rng(0)
    scores, labels = rng.random(80), rng.integers(0, 2, 80)
    found = measure(ScoreJudge(scores), prompts(labels))
    hits = scores >= 0.5
    assert found.accuracy.value == pytest.approx((hits == labels).mean())
    assert found.false_positives.value == pytest.approx(hits[labels == 0].mean())
    assert found.recall.value == pytest.approx(hits[labels == 1].mean())
    assert found.auroc.value == area_under_roc(scores, labels)
    assert found.ece.value == expected_calibration_error(scores, labels)
    for name in ("accuracy", "false_positives", "recall", "auroc", "ece"):
        estimate = getattr(found, name)
        assert estimate.ci_low <= estimate.value + 0.1
        assert estimate.ci_high > estimate.ci_low


def test_same_input_gives_the_same_intervals():
    scores, labels = np.linspace(0, 1, 30), [0, 1] * 15
    assert measure(ScoreJudge(scores), prompts(labels)) == measure(ScoreJudge(scores), prompts(labels))


def test_prompts_of_a_group_are_resampled_together():
    scores, labels = np.tile([0.9, 0.9, 0.1, 0.1], 20), [1] * 80
    alone = measure(ScoreJudge(scores), prompts(labels)).accuracy
    together = measure(ScoreJudge(scores), prompts(labels, [f"g{i // 2}" for i in range(80)])).accuracy
    assert together.ci_high - together.ci_low > alone.ci_high - alone.ci_low


def test_slice_of_one_label_has_no_numbers_of_the_other():
    found = measure(ScoreJudge([0.2, 0.7]), prompts([0, 0]))
    assert found.recall.value is None
    assert found.auroc.value is None
    assert found.false_positives.value == 0.5


def test_unreadable_prompt_is_neither_right_nor_wrong():
    found = measure(ScoreJudge([0.9, np.nan, 0.1]), prompts([1, 1, 0]))
    assert (found.n, found.unscored, found.accuracy.value, found.recall.value) == (3, 1, 1.0, 1.0)


def test_slice_that_nothing_can_be_read_of_has_no_numbers():
    found = measure(ScoreJudge([np.nan]), prompts([1]))
    assert found.unscored == 1
    assert {found.accuracy.value, found.auroc.value, found.ece.value} == {None}


def test_missed_are_the_problematic_ones_that_the_reference_calls_harmless():
    rows = [LabelledPrompt(t, p) for t, p in (("known", True), ("new", True), ("fine", False), ("", True))]
    assert missed_by(WordJudge(["known"]), rows) == [rows[1]]


def test_choice_does_not_depend_on_the_order():
    rows = prompts([0] * 30)
    assert chosen(rows, 10, seed=1) == chosen(rows[::-1], 10, seed=1)
    assert chosen(rows, 10, seed=1) != chosen(rows, 10, seed=2)


def test_slices_read_back_as_they_were_frozen(tmp_path):
    rows = [
        LabelledPrompt("one\u2028two\n", True, "held-out", "g"),
        LabelledPrompt("\ud800", False, "held-out"),
    ]
    made = Holdouts({MISSED: rows[:1], CONTENTIOUS: rows[1:]}, people=rows)
    made.save(tmp_path)
    assert load_holdouts(tmp_path) == made


def test_changed_slice_is_refused(tmp_path):
    Holdouts({MISSED: prompts([1, 1])}).save(tmp_path)
    write_prompts(tmp_path / f"{MISSED}.jsonl", prompts([1]))
    with pytest.raises(UsageError, match="changed after it was frozen"):
        load_holdouts(tmp_path)


def test_missing_slices_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no hold-out slices"):
        load_holdouts(tmp_path)


@pytest.mark.parametrize("slices", [{}, {MISSED: []}, {"other": prompts([1])}])
def test_no_slice_and_unknown_slice_are_refused(slices):
    with pytest.raises(UsageError, match="slice"):
        Holdouts(slices)


def test_training_row_that_differs_in_case_only_is_refused():
    held = Holdouts({MISSED: [LabelledPrompt("Some text", True)]})
    with pytest.raises(UsageError, match=r"1 of the rows .*some TEXT"):
        held.refuse([LabelledPrompt("some TEXT!", True), LabelledPrompt("other", True)], "the rows")


@pytest.mark.parametrize("line", ["{", "[]", '{"text": "x"}', '{"text": "x", "problematic": 1}'])
def test_file_of_something_else_is_refused_with_its_line(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine", "problematic": true}\n' + line + "\n")
    with pytest.raises(UsageError, match=r"rows\.jsonl:2"):
        read_prompts(path)
