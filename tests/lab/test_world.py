"""The world: enough goals, honest splits, facts that combine."""

from collections import Counter, defaultdict

import pytest

from toxoid.lab.world import FACT_KINDS, world


def test_has_at_least_twelve_categories_of_twenty_five_harmful_goals():
    counts = Counter(goal.category for goal in world().select("harmful"))
    assert len(counts) >= 12
    assert min(counts.values()) >= 25


def test_two_whole_categories_are_held_out():
    assert sum(category.held_out for category in world().categories.values()) == 2


@pytest.mark.parametrize("kind", ["harmful", "benign", "novel"])
def test_at_least_a_fifth_of_the_goals_is_held_out(kind):
    place = world()
    assert len(place.select(kind, "test")) >= 0.2 * len(place.select(kind))


@pytest.mark.parametrize("kind", ["harmful", "benign"])
def test_every_verb_and_object_of_a_held_out_goal_occurs_in_training(kind):
    place = world()
    train = place.select(kind, "train")
    verbs, things = {goal.verb for goal in train}, {goal.object for goal in train}
    for goal in place.select(kind, "test"):
        assert goal.verb in verbs
        assert goal.object in things


def test_no_goal_is_in_both_splits():
    seen = defaultdict(set)
    for goal in world().goals:
        seen[goal.verb, goal.object].add(goal.split)
    # The honest verbs are shared by categories, the objects are not: a pair has one split.
    assert all(len(splits) == 1 for splits in seen.values())


def test_harmful_honest_and_novel_verbs_are_disjoint():
    place = world()
    sets = [{goal.verb for goal in place.select(kind)} for kind in ("harmful", "benign", "novel")]
    assert len(set.union(*sets)) == sum(map(len, sets))


def test_a_fact_word_has_one_kind():
    place = world()
    kinds = defaultdict(set)
    for facts in (*place.verbs.values(), *place.objects.values()):
        for kind, word in facts.items():
            kinds[word].add(kind)
    assert set.union(*kinds.values()) == set(FACT_KINDS)
    assert all(len(found) == 1 for found in kinds.values())


def test_fact_words_name_no_verb_and_no_object():
    place = world()
    assert place.fact_kind.keys().isdisjoint(place.verbs.keys() | place.objects.keys())
