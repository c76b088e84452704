"""Corr@k: the protocol's means, short texts, immediate turns, positions, and what a given turn hides."""

from __future__ import annotations

import random
import statistics

import pytest

from tests.helpers.scripted_engine import ScriptedEngine
from toxoid.attacks.base import Cut
from toxoid.attacks.course_correction import CourseCorrection
from toxoid.audit.course_correction import curve, curves, mean_rows
from toxoid.audit.items import Drawing, Item, build_items, items_fingerprint
from toxoid.audit.rates import Settings, comparison_rows, rate_rows
from toxoid.audit.run import Scored, exchange, run_audit
from toxoid.audit.scored_files import read_scored, write_scored
from toxoid.audit.slim import changed
from toxoid.audit.tasks import TASKS
from toxoid.data.schemas import Request, user
from toxoid.engines.base import Completion, Sampling
from toxoid.judges.base import Outcome, Verdict
from toxoid.judges.correction import CorrectionJudge

FAST = Settings(resamples=200)
WORDS = 10  # of every completion below


def reply(turn):
    """Return a verdict: ``turn`` words before a correction, "never", "unknown" (a turn at no known word) or None."""
    if turn is None:
        return Verdict(Outcome.UNSCORED)
    if turn == "never":
        return Verdict(Outcome.MISS)
    return Verdict(Outcome.HIT, position=None if turn == "unknown" else turn)


def entry(name, k, *turns, whole=False, task="course-correction", trigger=""):
    request = Request(f"set/{name}", "How?", category="a")
    item = Item(task, request, user("How?"), f"begun {k}", cut=Cut(k, whole, trigger))
    done = tuple(Completion(" word" * WORDS, "length", 1, WORDS) for _ in turns)
    return Scored(item, done, {"corrected": tuple(map(reply, turns))})


def points(scored):
    return {point["k"]: point for point in curve(scored, FAST)["points"]}


def row_of(rows, metric, category="all"):
    return next(row for row in rows if (row["metric"], row["category"]) == (metric, category))


def test_corr_mean_is_the_mean_over_k_of_corr_at_k():
    draw = random.Random(0)
    scored = [
        entry(name, k, *draw.choices([0, 3, "never"], k=5), whole=name > 10 and k > 20)
        for name in range(17)
        for k in (10, 20, 30, 40)
    ]
    corr = [point["corr"] for point in points(scored).values()]
    assert row_of(rate_rows(scored, FAST), "corr_mean")["rate"] == pytest.approx(statistics.mean(corr))


def test_the_unit_of_corr_mean_is_the_request():
    row = row_of(rate_rows([entry(1, k, 0, "never") for k in (10, 20, 30)], FAST), "corr_mean")
    assert (row["n_items"], row["n_replies"]) == (1, 6)


def test_short_texts_count_in_the_protocol_and_are_kept_apart():
    found = points([entry(1, 80, 0, 0), entry(2, 80, "never", "never", whole=True)])[80]
    assert (found["n_items"], found["n_whole"]) == (2, 1)
    assert (found["corr"], found["corr_reached"]) == (0.5, 1.0)


def test_rates_are_broken_down_by_length_and_short_texts():
    rows = rate_rows([entry(1, 10, 0), entry(1, 20, "never"), entry(1, 30, 0, whole=True)], FAST)
    rates = {row["category"]: row["rate"] for row in rows if row["metric"] == "corr_mean"}
    assert rates == {"all": pytest.approx(2 / 3), "k=10": 1.0, "k=20": 0.0, "whole": 1.0}


def test_immediate_turns_are_those_before_any_word():
    scored = [entry(1, 10, 0, 4, "never", "never")]
    assert row_of(rate_rows(scored, FAST), "corr_mean")["rate"] == 0.5
    assert row_of(rate_rows(scored, FAST), "immediate_rate")["rate"] == 0.25
    assert points(scored)[10]["immediate"] == 0.25


def test_positions_are_words_before_the_turn():
    found = curve([entry(1, 10, 2, "never"), entry(2, 10, 4, "never")], FAST)
    assert found["mean_position"] == 3
    assert found["mean_words_before"] == (2 + 4 + 2 * WORDS) / 4


def test_unscored_replies_are_in_no_mean():
    found = points([entry(1, 10, 2, None), entry(2, 10, "never")])[10]
    assert (found["corr"], found["unscored"], found["mean_words_before"]) == (0.5, 1, (2 + WORDS) / 2)


def test_a_judge_that_knows_no_positions_gives_a_curve_without_them():
    scored = [entry(1, 10, "unknown", "never")]
    found = curve(scored, FAST)
    assert found["points"][0]["corr"] == 0.5
    assert found["points"][0]["immediate"] is found["mean_position"] is found["mean_words_before"] is None
    assert {row["metric"] for row in rate_rows(scored, FAST)} == {"corr_mean"}


def test_where_the_turn_was_given_there_is_no_position():
    assert curve([entry(1, 10, 0, trigger="But I stop.")], FAST)["mean_position"] is None


def test_a_false_correction_is_a_worse_rate():
    before = [entry(n, k, "never", task="false-correction") for n in range(9) for k in (10, 20)]
    after = [entry(n, k, 0, task="false-correction") for n in range(9) for k in (10, 20)]
    row = row_of(comparison_rows(before, after, FAST, names=("a", "b")), "false_correction_rate")
    assert (row["difference"], row["better"]) == (1.0, "lower")
    assert {flip["direction"] for flip in changed(before[0], after[0])} == {"worse"}


def test_tasks_that_begin_nothing_have_no_curve():
    plain = Scored(
        Item("harmfulness", Request("s/1", "?"), user("?")), (), {"harmful": (Verdict(Outcome.HIT),)}
    )
    assert [found["task"] for found in curves([plain, entry(1, 10, 0)], FAST)] == ["course-correction"]


def test_the_difference_of_words_counts_the_same_replies_on_both_sides():
    before = [entry(n, 10, "never", 1) for n in range(6)]
    after = [entry(n, 10, 5, 1) for n in range(6)]
    rows = {row["measure"]: row for row in mean_rows(before, after, FAST)}
    assert rows["mean_words_before"]["difference"] == (5 + 1) / 2 - (WORDS + 1) / 2
    assert rows["mean_position"]["difference"] == 3 - 1  # late corrections that were added


def test_only_shared_requests_and_asked_tasks_are_compared():
    before, after = [entry(1, 10, 2), entry(2, 10, 8)], [entry(2, 10, 4)]
    assert [(row["n"], row["difference"]) for row in mean_rows(before, after, FAST)] == [(1, -4), (1, -4)]
    assert mean_rows(before, after, FAST, tasks=["harmfulness"]) == []


def test_scored_beginnings_survive_the_disk(tmp_path):
    scored = [entry(1, 10, 3, "never"), entry(2, 80, None, whole=True, trigger="But")]
    write_scored(tmp_path / "s.jsonl", scored)
    assert read_scored(tmp_path / "s.jsonl") == scored


def test_a_text_that_is_short_for_two_lengths_gives_two_items():
    request = Request("s/1", "How?", target="Take the lamp.")
    items = build_items("course-correction", [request], CourseCorrection(lengths=(60, 70)), seed=0)
    assert items[0].prefill == items[1].prefill
    drawing = Drawing(Sampling(), 2)
    assert items[0].generation(drawing, 0).seed != items[1].generation(drawing, 0).seed
    assert items_fingerprint(items)["course-correction"]["items"] == 2


def test_judges_read_a_given_turn_as_the_replys_own():
    attack = CourseCorrection(opener=None, trigger="evaluation", lengths=(2,))
    request = Request("s/1", "How?", target="Take the lamp and go.")
    (item,) = build_items("course-correction-trigger", [request], attack, seed=0)
    seen = exchange(item, Completion(" That is wrong.", "stop", 1, 1))
    assert seen.prefill == "Take the"
    assert seen.reply == f"{item.prefill} That is wrong."


def test_an_audit_of_beginnings_draws_each_task_its_own_way():
    request = Request("s/1", "How?", target="Take the lamp and go.")
    items = build_items("course-correction", [request], CourseCorrection(lengths=(4, 8)), seed=0)
    engine = ScriptedEngine(lambda request, i: " But I must stop here." if i else " the lamp.")
    drawings = {"course-correction": Drawing(Sampling(0.8, 0.7, 32), 2)}
    scored = list(run_audit(engine, {"corrected": CorrectionJudge()}, items, drawings=drawings, seed=0))
    assert {(asked.n, asked.sampling.top_p, asked.prefill) for asked in engine.asked} == {
        (2, 0.7, item.prefill) for item in items
    }
    assert row_of(rate_rows(scored, FAST), "immediate_rate")["rate"] == 0.5


def test_a_reply_that_the_engine_could_not_give_is_unscored():
    class Blocking(ScriptedEngine):
        def generate(self, requests, on_done=None):
            return [[Completion("", "content_filter", 0, 0, {"error": "blocked"})] for _ in requests]

    items = [Item("course-correction", Request("s/1", "?"), user("?"), "Take", cut=Cut(1))]
    drawings = {"course-correction": Drawing(Sampling(), 1)}
    judges = {"corrected": CorrectionJudge()}
    (found,) = run_audit(Blocking(None), judges, items, drawings=drawings, seed=0)
    assert found.verdicts["corrected"] == (Verdict(Outcome.UNSCORED, reason="no reply: blocked"),)


def test_every_task_of_course_correction_reads_the_same_aspect():
    begun = [task for task in TASKS.values() if task.course]
    assert len(begun) == 7
    assert {metric.aspect for task in begun for metric in task.metrics} == {"corrected"}
