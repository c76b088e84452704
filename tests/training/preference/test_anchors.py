from __future__ import annotations

from collections import Counter

import pytest

from toxoid.training.examples import TokenisedExample
from toxoid.training.preference.anchors import AnchorRotation
from toxoid.training.preference.rows import PreferenceRows

ANCHORS = [TokenisedExample((number, 1), (-100, 1)) for number in range(7)]


def taken(per_group: float, positions: int, seed: int = 0) -> list[int]:
    rotation = AnchorRotation(ANCHORS, per_group=per_group, seed=seed)
    return [row.input_ids[0] for position in range(positions) for row in rotation.at(position)]


@pytest.mark.parametrize("per_group", [0.1, 0.5, 1.0, 1.5, 4.0])
def test_so_many_go_with_a_group_on_average(per_group: float):
    assert len(taken(per_group, 200)) == 200 * per_group


def test_none_comes_again_before_all_have_come():
    order = taken(1.5, 100)
    for start in range(0, len(order) - 7, 7):
        assert sorted(order[start : start + 7]) == list(range(7))


def test_few_groups_use_all_anchors_over_the_epochs():
    assert set(Counter(taken(0.5, 2 * 7))) == set(range(7))


def test_what_goes_with_a_position_depends_on_nothing_else():
    rotation = AnchorRotation(ANCHORS, per_group=1.5, seed=3)
    forth = [rotation.at(position) for position in range(30)]
    back = [AnchorRotation(ANCHORS, per_group=1.5, seed=3).at(position) for position in reversed(range(30))]
    assert forth == back[::-1]


def test_another_seed_gives_another_order():
    assert taken(1.0, 7, seed=1) != taken(1.0, 7, seed=2)


def test_a_position_is_an_epoch_and_a_place_in_it():
    orders = [[3, 0, 4, 1, 2], [2, 1, 0, 4, 3]]
    none = AnchorRotation([], per_group=1.0, seed=0)
    rows = PreferenceRows(list("abcde"), [*range(5)], none, orders.__getitem__)
    assert [[rows[5 * epoch + place].margins for place in range(5)] for epoch in range(2)] == orders
    assert rows[7].layout == "a"
