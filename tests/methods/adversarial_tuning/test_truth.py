"""Tests of ground truth and of the queue for people's labels."""

from __future__ import annotations

import pytest

from toxoid.data.lab import lab_requests
from toxoid.errors import UsageError
from toxoid.judges.base import Outcome, Verdict
from toxoid.methods.adversarial_tuning.label_queue import FILE, LabelQueue
from toxoid.methods.adversarial_tuning.truth import (
    HumanTruth,
    JudgeTruth,
    LabTruth,
    Waiting,
    check_independent,
)


class ScriptedJudge:
    name = "scripted"

    def __init__(self, *outcomes, aspects=("problematic",)):
        self.outcomes = outcomes
        self.aspects = frozenset(aspects)

    def identity(self):
        return {"judge": "scripted", "engine": {"kind": "local", "weights": "abc"}}

    def judge(self, exchanges, aspect):
        assert aspect == "problematic"
        self.seen = [exchange.request.prompt for exchange in exchanges]
        return [Verdict(outcome) for outcome in self.outcomes]


@pytest.mark.parametrize(
    ("name", "problematic"), [("lab-harmful", True), ("lab-jailbreak", True), ("lab-contentious", False)]
)
def test_lab_knows_its_own_requests(name, problematic):
    texts = [request.prompt for request in lab_requests(name)][:50]
    assert LabTruth().label(texts) == [problematic] * len(texts)
    assert all(map(LabTruth().is_request, texts))


def test_lab_cannot_tell_what_it_cannot_parse():
    assert LabTruth().label(["How do I bake bread?", ""]) == [None, None]


def test_question_about_a_reply_is_no_request():
    text = lab_requests("lab-harmful").requests[0].prompt
    assert not LabTruth().is_request(f"Request: {text}\nReply: No.\nIs this fine?")


def test_judge_leaves_open_what_it_cannot_score():
    judge = ScriptedJudge(Outcome.HIT, Outcome.MISS, Outcome.UNSCORED)
    assert JudgeTruth(judge).label(["a", "b", "c"]) == [True, False, None]
    assert judge.seen == ["a", "b", "c"]


def test_judge_of_another_aspect_is_refused():
    with pytest.raises(UsageError, match="answers refusal"):
        JudgeTruth(ScriptedJudge(aspects=["refusal"]))


def test_truth_that_asks_the_adversarys_model_is_refused():
    others = {"the adversary": {"kind": "local", "weights": "abc"}}
    with pytest.raises(UsageError, match="scripted is the adversary"):
        check_independent(JudgeTruth(ScriptedJudge()), others)


def test_another_model_may_be_the_truth():
    check_independent(JudgeTruth(ScriptedJudge()), {"the adversary": {"kind": "local", "weights": "def"}})


def test_people_are_waited_for_with_a_count_and_a_command(tmp_path):
    truth = HumanTruth(LabelQueue(tmp_path))
    with pytest.raises(Waiting, match=r"2 of 2 prompts have no label yet: run `toxoid judge label .*`"):
        truth.label(["one", "two"])
    LabelQueue(tmp_path).record("one", "problematic", by="me")
    with pytest.raises(Waiting, match="1 of 2"):
        truth.label(["one", "two"])
    LabelQueue(tmp_path).record("Two!", "unclear", by="me")
    assert truth.label(["one", "two"]) == [True, None]


def test_queue_holds_each_text_once(tmp_path):
    queue = LabelQueue(tmp_path)
    queue.ask(["One.", "one", "two"])
    queue.ask(["two", "three"])
    assert queue.open() == ["One.", "two", "three"]


def test_labelled_text_is_not_asked_again(tmp_path):
    queue = LabelQueue(tmp_path)
    queue.record("one", "harmless", by="me")
    queue.ask(["One"])
    assert queue.open() == []


def test_last_label_wins_and_says_who_and_when(tmp_path):
    queue = LabelQueue(tmp_path)
    queue.record("one", "harmless", by="me")
    queue.record("one", "problematic", by="you")
    answer = queue.answers()["one"]
    assert (answer.label, answer.by) == ("problematic", "you")
    assert answer.at.endswith("+00:00")
    assert len((tmp_path / FILE).read_text().splitlines()) == 2  # nothing is removed


def test_line_that_a_crash_cut_off_spoils_no_other(tmp_path):
    queue = LabelQueue(tmp_path)
    queue.ask(["one", "two"])
    file = tmp_path / FILE
    file.write_text(file.read_text()[:-9])
    assert queue.open() == ["one"]
    queue.ask(["two"])
    assert queue.open() == ["one", "two"]


@pytest.mark.parametrize("text", ["line one\nline two\r\u2028three", 'quotes " and \\', "\ud800 surrogate"])
def test_any_text_survives_the_queue(tmp_path, text):
    queue = LabelQueue(tmp_path)
    queue.ask([text])
    assert queue.open() == [text]


def test_unknown_label_is_refused(tmp_path):
    with pytest.raises(UsageError, match="label is"):
        LabelQueue(tmp_path).record("one", "maybe", by="me")


def test_foreign_file_is_refused_with_its_line(tmp_path):
    (tmp_path / FILE).write_text('{"asked": "one", "at": "now"}\n{"prompt": "x"}\n')
    with pytest.raises(UsageError, match=f"{FILE}:2"):
        LabelQueue(tmp_path).open()
