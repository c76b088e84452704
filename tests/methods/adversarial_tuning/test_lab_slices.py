"""Tests of the lab's part in ``benchmarks.adversary_versus_judge``: what is measured is never trained on."""

from __future__ import annotations

import pytest
from benchmarks import judge_lab

from tests.methods.adversarial_tuning.fakes import WordJudge
from toxoid.methods.adversarial_tuning.holdouts import UNSEEN_ADVERSARY
from toxoid.methods.adversarial_tuning.truth import LabTruth

WORDINGS = judge_lab.Wordings("test")


@pytest.fixture(scope="module")
def holdouts():
    return judge_lab.frozen_slices("test", WordJudge(), 0)


def named(part):
    known = judge_lab.goals(part)
    return {f"{goal.verb} {goal.object}" for goal in (*known.harmful, *known.benign, *known.novel)}


def test_parts_of_the_goals_do_not_meet():
    train, development, test = map(named, ("train", "development", "test"))
    assert not train & development
    assert not test & (train | development)


def test_seeds_and_negatives_are_about_training_goals_and_in_no_slice(holdouts):
    rows = [*judge_lab.seed_set(0), *judge_lab.negatives(WORDINGS, 0)]
    assert {row.group for row in rows} <= named("train")
    assert not holdouts.keys & {row.key for row in rows}


def test_labels_are_the_oracles(holdouts):
    rows = [*judge_lab.seed_set(0), *judge_lab.negatives(WORDINGS, 0), *holdouts.people]
    rows += [row for prompts in holdouts.slices.values() for row in prompts]
    assert LabTruth().label([row.text for row in rows]) == [row.problematic for row in rows]


def test_seed_set_is_balanced_and_about_four_categories():
    rows = judge_lab.seed_set(1)
    place = judge_lab.world()
    assert sum(row.problematic for row in rows) == len(rows) / 2 == 24
    assert len({place.category_of_object[row.group.split()[1]] for row in rows}) <= 4


def test_pool_asks_about_training_goals_in_wordings_that_are_not_held_out():
    valid = judge_lab.valid_candidate(WORDINGS, LabTruth())
    assert all(map(valid, judge_lab.ordinary_pool(WORDINGS, 0)[:300]))


def test_candidates_about_held_out_goals_or_in_held_out_wordings_are_invalid(holdouts):
    valid = judge_lab.valid_candidate(WORDINGS, LabTruth())
    rows = [row for prompts in holdouts.slices.values() for row in prompts] + list(holdouts.people)
    assert not any(valid(row.text) for row in rows)
    goal = judge_lab.goals("train").harmful[0]
    for form in WORDINGS.unseen_disguises:
        assert not valid(form.format(verb=goal.verb, object=goal.object))


def test_frame_of_the_unseen_adversary_is_not_the_label(holdouts):
    prompts = holdouts.slices[UNSEEN_ADVERSARY]
    assert sum(row.problematic for row in prompts) == len(prompts) / 2
