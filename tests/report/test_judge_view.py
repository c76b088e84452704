"""What is said of a judge's training and of its card, before it is put on a page or in a terminal."""

from __future__ import annotations

import pytest

from tests.report.synthetic_judge import (
    NONE,
    agreement,
    card,
    change,
    estimate,
    record,
    results,
    untrained_against,
)
from toxoid.errors import UsageError
from toxoid.methods.adversarial_tuning.holdouts import CONTENTIOUS, SLICES, UNCONDITIONED
from toxoid.report.judge_card import card_facts, card_sentence, group_tables
from toxoid.report.judge_view import checked, figures, missed, round_lines, sentences, slice_tables
from toxoid.report.view import MAX_CATEGORIES


def with_measures(whole: dict, arm: str, number: int, name: str, measure: str, value: dict) -> dict:
    whole["arms"][arm][number]["measures"][name][measure] = value
    return whole


def figure(whole: dict, name: str):
    return figures(checked(whole))[SLICES.index(name)]


def test_the_first_sentence_counts_what_is_measurably_better_and_worse():
    assert sentences(results())[0] == (
        "Round 4 is adopted: measurably better than round 0 on 3 of 4 slices, worse on none."
    )


def test_the_second_says_what_each_number_did():
    told = sentences(results())[1]
    assert told.startswith(
        "Accuracy on prompts missed by a reference judge rose from 12.0 % to 83.0 %, false positives"
    )
    assert "false positives on contentious but harmless prompts fell from 11.0 % to 1.0 %" in told
    assert "nothing measurably changed on prompts of an adversary never trained against" in told


def test_more_false_positives_are_worse():
    whole = with_measures(results(), "adversary", 4, CONTENTIOUS, "false_positives", estimate(0.3))
    assert figure(whole, CONTENTIOUS).change == "worse"
    assert "worse on 1." in sentences(whole)[0]
    assert "contentious but harmless prompts rose from 11.0 % to 30.0 %" in sentences(whole)[1]


@pytest.mark.parametrize(
    ("value", "change"), [(0.73, "unclear"), (0.7301, "better"), (0.53, "unclear"), (0.519, "worse")]
)
def test_better_and_worse_need_intervals_that_do_not_touch(value, change):
    whole = with_measures(results(), "adversary", 0, UNCONDITIONED, "accuracy", estimate(0.625))
    whole = with_measures(whole, "adversary", 4, UNCONDITIONED, "accuracy", estimate(value, 0.055))
    assert figure(whole, UNCONDITIONED).change == change


def test_a_number_that_is_not_defined_has_not_changed():
    whole = with_measures(results(), "adversary", 4, UNCONDITIONED, "accuracy", NONE)
    assert figure(whole, UNCONDITIONED).change == "unclear"


def test_the_control_is_compared_where_it_had_as_many_labels():
    whole = results() | {"adopted": 2}
    assert checked(whole).opponent["round"] == 2
    assert figure(whole, UNCONDITIONED).control.value == 0.81


def test_a_control_that_ended_early_is_compared_as_it_ended():
    whole = results()
    whole["arms"]["control"] = whole["arms"]["control"][:3]
    assert checked(whole).opponent["round"] == 2


def test_a_gain_that_the_control_has_too_is_said_to_prove_little():
    whole = results()
    whole["arms"]["control"] = whole["arms"]["adversary"]
    assert sentences(whole)[2].endswith(
        "measurably different on no slice. So the gain may come from more labels alone."
    )
    assert "more labels alone" not in " ".join(sentences(results()))


def test_without_a_control_nothing_is_said_of_one():
    assert "control" not in " ".join(sentences(results(control=False))).lower()


def test_rounds_that_were_all_refused_leave_the_first_judge():
    whole = results(1, control=False, adopted=0)
    assert (
        sentences(whole)[0]
        == "No round is adopted: the judge is the one of round 0, which learnt the seeds alone."
    )
    assert all(each.last is None for each in figures(checked(whole)))


@pytest.mark.parametrize("whole", [untrained_against(), results(0, control=False)])
def test_without_rounds_the_verdict_is_the_card(whole):
    assert sentences(whole) == [card_sentence(whole["card"])]


def test_the_card_comes_down_to_one_sentence():
    assert card_sentence(card()) == (
        "The judge agrees with 90.0 % (87.7 to 91.9) of 800 labels: it finds 90.0 % of what is labelled problematic, "
        "and leaves 90.0 % of the rest alone."
    )
    assert card_sentence({"n": 0}) == "The judge was not measured: its card holds no labels."


def test_a_round_says_why_it_was_adopted_or_not():
    lines = round_lines(results()["arms"]["adversary"])
    assert [line.adopted for line in lines] == [True, True, True, False, True]
    assert [line.collapsed for line in lines] == [False, False, False, False, True]
    assert lines[3].why == "agreement with people −8.0 points (−14.0 to −2.0) against round 2"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (None, "no labels of people to go by"),
        (change(None), "no prompt labelled by people was scored in both rounds"),
    ],
)
def test_a_round_without_a_comparison_says_so(given, why):
    (line,) = round_lines([record(1, agreement={"right": [], "change": given})])
    assert line.why == why


def test_labels_add_up_over_the_rounds():
    assert [line.learnt for line in round_lines(results()["arms"]["adversary"])] == [
        "48",
        "288",
        "528",
        "768",
        "1,008",
    ]


def test_round_0_has_no_candidates():
    (line,) = round_lines([record(0)])
    assert (line.candidates, line.problematic, line.success.rate, line.distinct) == ("–", "–", "–", ())


def test_a_slice_shows_only_what_is_defined_on_it():
    tables = slice_tables(results()["arms"]["adversary"])
    assert [measure for measure, _ in tables[0].rows] == ["Accuracy", "Recall", "Calibration error"]
    assert [measure for measure, _ in tables[1].rows] == ["Accuracy", "False positives", "Calibration error"]
    assert {len(cells) for table in tables for _, cells in table.rows} == {5}
    assert tables[3].prompts == "200 prompts, up to 2 unscored"


def test_only_the_slices_that_were_measured_are_shown():
    whole = results(1)
    for each in (*whole["arms"]["adversary"], *whole["arms"]["control"]):
        each["measures"] = {UNCONDITIONED: each["measures"][UNCONDITIONED]}
    assert len(figures(checked(whole))) == len(slice_tables(whole["arms"]["adversary"])) == 1


def test_a_few_of_what_was_missed_are_shown_of_each_round_and_all_are_counted():
    found = missed(results()["arms"]["adversary"])
    assert [each.number for each in found] == [1, 2, 3, 4]
    assert (len(found[0].texts), found[0].total) == (3, 53)


def test_groups_are_shown_if_there_are_several():
    assert [table.title for table in group_tables(card())] == ["By category", "By source", "By length"]
    assert group_tables({"by_group": {"one": agreement(9)}}) == []


def test_many_groups_are_cut_and_counted():
    (table,) = group_tables({"by_category": {f"kind {i}": agreement(9) for i in range(MAX_CATEGORIES + 7)}})
    assert (len(table.lines), table.hidden) == (MAX_CATEGORIES, 7)


def test_what_a_card_does_not_hold_is_not_shown():
    names = [
        fact.name for fact in card_facts(card(auroc=None, ece=None, threshold=None, licence=None, date=None))
    ]
    assert names[-1] == "Cohen's kappa"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"kind": "judge"},
        {"kind": "audit", "recipe": {}, "card": {}},
        {"kind": "judge", "recipe": {}, "card": None},
    ],
)
def test_something_else_than_a_training_is_refused(wrong):
    with pytest.raises(UsageError, match=r"no results of a judge's training .*`toxoid judge train`"):
        checked(wrong)


@pytest.mark.parametrize("adopted", [7, None])
def test_a_round_that_is_not_there_cannot_be_adopted(adopted):
    with pytest.raises(UsageError, match=f"adopt round {adopted}, expected one of 0 to 4"):
        checked(results(adopted=adopted))
