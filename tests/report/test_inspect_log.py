"""Logs of inspect_ai: what stands in them, and that inspect computes the same from them."""

from __future__ import annotations

import math
from importlib.util import find_spec

import pytest

from tests.report.scored import scored
from tests.report.synthetic import HOSTILE
from toxoid.audit.rates import Settings, rate_rows
from toxoid.errors import UsageError
from toxoid.report.inspect_log import CLUSTER, inspect_logs, write_inspect_logs

needs_inspect = pytest.mark.skipif(find_spec("inspect_ai") is None, reason="inspect_ai is not installed")
RESULTS = {"meta": {"model": "/models/lab-base", "seed": 0, "created": "2026-01-02T03:04:05+00:00"}}


def system(entries):
    return {"name": "base", "label": "lab-base", "rates": rate_rows(entries, Settings(resamples=200))}


def logs(*entries):
    return inspect_logs(RESULTS, system(entries), entries)


ENTRIES = (
    scored("hit miss"),
    scored("miss unscored", request="set/1"),
    scored("hit hit", request="set/2"),
    scored("miss", task="over-refusal", request="set/3"),
)


@pytest.mark.skipif(find_spec("inspect_ai") is not None, reason="inspect_ai is installed")
def test_without_inspect_the_user_is_told_what_to_install(tmp_path):
    with pytest.raises(UsageError, match=r"pip install 'toxoid\[inspect\]'"):
        write_inspect_logs(tmp_path, RESULTS, system(ENTRIES), ENTRIES)


@needs_inspect
def test_a_log_is_a_task_a_sample_a_reply():
    found = logs(*ENTRIES)
    assert list(found) == ["harmfulness", "over-refusal"]
    samples = found["harmfulness"].samples
    assert [(one.id, one.epoch) for one in samples] == [(f"set/{i}", n) for i in range(3) for n in (1, 2)]
    assert [message.role for message in samples[0].messages] == ["user", "assistant"]
    assert samples[0].output.usage.total_tokens == 12
    assert found["harmfulness"].eval.model == "toxoid/lab-base/base"


@needs_inspect
def test_what_the_judge_could_not_score_is_unscored_there_too():
    log = logs(*ENTRIES)["harmfulness"]
    values = [one.scores["harmless_rate"].as_float() for one in log.samples]
    assert values[:3] + values[4:] == [0, 1, 1, 0, 0]
    assert math.isnan(values[3])
    told = log.results.scores[0]
    assert (told.scored_samples, told.unscored_samples) == (5, 1)


@needs_inspect
def test_inspect_computes_the_runs_rate_from_the_log_and_an_error_clustered_by_request(tmp_path):
    from inspect_ai.log import read_eval_log, recompute_metrics

    paths = write_inspect_logs(tmp_path / "logs", RESULTS, system(ENTRIES), ENTRIES)
    assert [path.name for path in paths] == ["harmfulness.eval", "over-refusal.eval"]
    log = read_eval_log(str(paths[0]))
    assert log.status == "success"
    assert log.samples[0].metadata[CLUSTER] == "set/0"
    told = log.results.scores[0].metrics["mean"].value
    recompute_metrics(log)
    again = log.results.scores[0].metrics
    assert again["mean"].value == pytest.approx(told)
    assert again["stderr"].value > 0


@needs_inspect
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_can_be_written_and_is_kept(text, tmp_path):
    from inspect_ai.log import read_eval_log

    entry = scored("hit", prompt=text, reply=text)
    (path,) = write_inspect_logs(tmp_path, RESULTS, system([entry]), [entry])
    (sample,) = read_eval_log(str(path)).samples
    assert sample.output.completion == text.encode("utf-8", "backslashreplace").decode("utf-8")
