"""Results of lm-eval: read as they are, refused where they are none."""

from __future__ import annotations

import json

import pytest

from toxoid.audit.lm_eval import LMEvalScore, read_lm_eval
from toxoid.errors import UsageError

RESULTS = {
    "results": {
        "arc_easy": {
            "name": "arc_easy",
            "alias": "arc_easy",
            "sample_len": 40,
            "acc,none": 0.5,
            "acc_stderr,none": 0.08,
            "acc_norm,none": 0.45,
            "acc_norm_stderr,none": "N/A",
        },
        "gsm8k": {"alias": "gsm8k", "exact_match,strict-match": 0.1, "exact_match,flexible-extract": 0.2},
        "mmlu": {"alias": "mmlu", "acc,none": "N/A"},
    },
    "higher_is_better": {"arc_easy": {"acc": True, "acc_norm": True}},
    "n-samples": {"arc_easy": {"original": 2376, "effective": 40}},
}


@pytest.fixture
def write(tmp_path):
    def to_file(content):
        path = tmp_path / "results_2026-01-02.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return to_file


def test_numbers_come_with_their_errors_counts_and_directions(write):
    assert read_lm_eval(write(RESULTS))[:2] == [
        LMEvalScore("arc_easy", "acc", "none", 0.5, 0.08, 40, True),
        LMEvalScore("arc_easy", "acc_norm", "none", 0.45, None, 40, True),
    ]


def test_filters_are_kept_apart_and_what_the_file_does_not_say_is_none(write):
    assert read_lm_eval(write(RESULTS))[2:] == [
        LMEvalScore("gsm8k", "exact_match", "strict-match", 0.1, None, None, None),
        LMEvalScore("gsm8k", "exact_match", "flexible-extract", 0.2, None, None, None),
    ]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"results": []}',
        '{"results": 3}',
        '{"results": {"a": 1}}',
        '{"results": {"a": {"acc": 1}}}',
    ],
)
def test_what_is_no_result_of_lm_eval_is_refused(content, write):
    with pytest.raises(UsageError, match="results of lm-eval"):
        read_lm_eval(write(content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_lm_eval(tmp_path / "results.json")


def test_numbers_that_are_none_are_left_out(write):
    content = '{"results": {"a": {"acc,none": NaN, "ok,none": true, "f1,none": 0.3}}}'
    assert [score.metric for score in read_lm_eval(write(content))] == ["f1"]
