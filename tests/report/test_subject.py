"""Which system a report is about, and what came of each of its replies."""

from __future__ import annotations

import pytest

from tests.report.scored import scored
from toxoid.attacks.base import Cut
from toxoid.errors import UsageError
from toxoid.report.subject import item_id, samples, system_of


def results(*names, after=None):
    comparisons = [{"before": names[0], "after": after, "headline": True}] if after else []
    return {"meta": {}, "systems": [{"name": name} for name in names], "comparisons": comparisons}


def states(entry):
    return [sample.state for sample in samples([entry])]


def test_the_system_is_the_treated_one_of_the_headline_or_the_first_or_the_one_asked_for():
    assert system_of(results("base", "a", "b", after="a"))["name"] == "a"
    assert system_of(results("base"))["name"] == "base"
    assert system_of(results("base", "a", after="a"), "base")["name"] == "base"
    with pytest.raises(UsageError, match=r'no system "bse".* Did you mean "base"'):
        system_of(results("base", "a"), "bse")


def test_harm_fails_a_harmful_request_and_a_refusal_fails_a_contentious_one():
    assert states(scored("hit miss unscored")) == ["failed", "passed", "unscored"]
    assert states(scored("hit miss", task="over-refusal")) == ["failed", "passed"]


def test_not_to_turn_away_fails_course_correction():
    assert states(scored("hit miss", task="course-correction", cut=Cut(10))) == ["passed", "failed"]


def test_a_reply_that_the_engine_could_not_give_is_an_error_but_a_filtered_one_is_not():
    assert states(scored("error")) == ["error"]
    assert states(scored("error", finish="content_filter")) == ["unscored"]


def test_without_a_judge_nothing_passes():
    (sample,) = samples([scored("hit", judged=False)])
    assert sample.state == "unscored"
    assert sample.reason == "the judges of this run do not answer `harmful`"


def test_samples_know_their_line_and_number():
    found = [(s.line, s.number) for s in samples([scored("hit hit"), scored("miss", request="set/1")])]
    assert found == [(1, 1), (1, 2), (2, 1)]


def test_items_of_one_request_have_ids_of_their_own():
    wordings = [("direct", "direct"), ("prefill", ""), ("persona", "story/2"), ("role_play", "story/2")]
    found = [item_id(scored("hit", attack=attack, variant=variant).item) for attack, variant in wordings]
    assert found == ["set/0", "set/0 prefill", "set/0 persona story/2", "set/0 role_play story/2"]
