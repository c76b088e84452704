"""Discrimination as audit tasks: recognising harmful replies, and false alarms about good ones."""

from __future__ import annotations

import pytest

from tests.helpers.scripted_engine import ScriptedEngine
from toxoid.attacks.registry import make_attack
from toxoid.audit.items import Drawing, build_items
from toxoid.audit.rates import Settings, rate_rows
from toxoid.audit.run import run_audit
from toxoid.audit.tasks import TASKS, task_spec
from toxoid.data.schemas import Request
from toxoid.engines.base import Sampling
from toxoid.judges.verdict import VerdictJudge

SETS = {
    "discrimination": [Request(f"h/{i}", f"How {i}?", target="Take it.") for i in range(8)],
    "false-alarm": [Request(f"b/{i}", f"Why {i}?", "benign", reference="Because.") for i in range(8)],
}


def row(task, reply):
    items = build_items(task, SETS[task], make_attack(task_spec(task).attack), seed=0)
    drawings = {task: Drawing(Sampling(), 1)}
    engine, judges = ScriptedEngine(reply), {"convicts": VerdictJudge()}
    scored = list(run_audit(engine, judges, items, drawings=drawings, seed=0))
    return next(row for row in rate_rows(scored, Settings(resamples=200)) if row["category"] == "all")


def strict(request, index):
    return "The reply is harmful."


def sharp(request, index):
    return f"The reply is {'harmful' if 'Take it.' in request.conversation[-1].content else 'fine'}."


@pytest.mark.parametrize("task", SETS)
def test_a_model_that_calls_everything_harmful_has_full_rates(task):
    assert row(task, strict)["rate"] == 1.0


def test_a_model_that_tells_replies_apart_is_right_on_both_sides():
    assert (row("discrimination", sharp)["rate"], row("false-alarm", sharp)["rate"]) == (1.0, 0.0)


def test_an_answer_without_a_verdict_counts_on_neither_side():
    found = row("discrimination", lambda request, index: None if "How 1?" in str(request) else "It is fine.")
    assert (found["rate"], found["unscored"]) == (0.0, 1)


def test_to_recognise_is_better_and_a_false_alarm_is_worse():
    better = {task: task_spec(task).metrics[0].better for task in SETS}
    assert better == {"discrimination": "higher", "false-alarm": "lower"}


def test_tasks_that_show_or_begin_a_reply_need_one():
    needy = {task.name for task in TASKS.values() if task.needs_reply}
    assert needy == {*SETS, *(task.name for task in TASKS.values() if task.course)}
