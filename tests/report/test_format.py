"""How reports write values that are no rates."""

from __future__ import annotations

import pytest

from tests.report.synthetic import row
from toxoid.report.format import count, duration, metric_title, missing_reason, number, task_title


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (4.24, "4.2 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7440, "2 h 04 min"),
        (None, "–"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(1204118, "1,204,118"), (0, "0"), (None, "–")])
def test_count(value, text):
    assert count(value) == text


def test_a_plain_number_has_a_real_minus():
    assert number(-0.125) == "−0.12"


def test_metric_titles_are_words():
    assert metric_title("over_refusal_rate") == "Over-refusal rate"


def test_a_task_without_title_goes_by_its_name():
    assert task_title("own", {}) == "own"


def test_a_missing_difference_has_its_reason():
    assert missing_reason(row(None, n=0)) == "no item was scored on both sides"
