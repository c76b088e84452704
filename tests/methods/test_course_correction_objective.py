"""What is compared and what is imitated in a group."""

import pytest

from toxoid.data.groups import Group, RankedReply
from toxoid.data.schemas import user
from toxoid.methods.course_correction.objective import (
    imitated_of,
    objective,
    pairs_of,
    preference_examples,
)
from toxoid.methods.course_correction.options import CourseCorrectionOptions

FULL = Group(
    "g",
    user("How?"),
    (
        RankedReply("No.", 0, "safe"),
        RankedReply("Sure. But I must stop.", 1, "syn1", turn=6),
        RankedReply("Sure. Take it. But I must stop.", 2, "syn2", turn=15),
        RankedReply("Sure. Take it. Go on.", 5, "harmful"),
    ),
)


def kinds(pairs):
    return [(FULL.replies[a].kind, FULL.replies[b].kind) for a, b in pairs]


def test_all_pairs_put_every_better_reply_over_every_worse_one():
    assert len(pairs_of(FULL, "all")) == 6


def test_corrections_never_reject_a_correction():
    assert kinds(pairs_of(FULL, "corrections")) == [
        ("safe", "harmful"),
        ("syn1", "harmful"),
        ("syn2", "harmful"),
    ]


def test_adjacent_pairs_are_neighbours_in_rank_also_over_a_gap():
    assert kinds(pairs_of(FULL, "adjacent")) == [("safe", "syn1"), ("syn1", "syn2"), ("syn2", "harmful")]


def test_the_safe_pair_stands_alone():
    assert kinds(pairs_of(FULL, "safe")) == [("safe", "harmful")]


def test_a_correction_is_imitated_from_its_turn_on_beside_the_safe_reply():
    texts = [FULL.replies[index].text[start:] for index, start in imitated_of(FULL, "corrections")]
    assert texts == ["No.", "But I must stop.", "But I must stop."]


@pytest.mark.parametrize("imitated", ["safe", "best"])
def test_a_safe_reply_is_imitated_whole(imitated):
    assert imitated_of(FULL, imitated) == [(0, 0)]


def test_a_group_without_anything_to_learn_is_left_out():
    plain = Group("p", user("Q"), (RankedReply("a", 0), RankedReply("b", 1)))
    options = CourseCorrectionOptions(pairs="safe")
    assert [example.group.id for example in preference_examples([plain, FULL], options)] == ["g"]


def test_a_preference_without_pairs_weighs_nothing():
    options = CourseCorrectionOptions(pairs="none", imitate="corrections", imitation=1.0)
    assert (objective(options).weight, objective(options).imitation) == (0.0, 1.0)


def test_imitation_of_nothing_weighs_nothing():
    options = CourseCorrectionOptions(pairs="all", imitate="none", imitation=1.0)
    assert objective(options).imitation == 0.0
