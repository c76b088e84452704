"""Choosing from a set: kinds, subsamples, splits and overlaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.data.request_set import (
    RequestSet,
    normalised,
    of_kind,
    overlap,
    prompt_key,
    refuse_overlap,
    split_by_prompt,
    subsample,
    without_duplicates,
)
from toxoid.data.schemas import Request
from toxoid.errors import UsageError

PROMPTS = st.lists(st.text("abAB .!", min_size=1, max_size=6), min_size=1, max_size=40)


def requests(*prompts: str, name: str = "set") -> list[Request]:
    return [Request(f"{name}/{number}", prompt) for number, prompt in enumerate(prompts)]


def many(count: int) -> RequestSet:
    return RequestSet(tuple(requests(*(f"request {n}" for n in range(count)))), "set", "0" * 64)


def test_normalised_ignores_case_punctuation_and_spaces():
    assert normalised("  How do I: curse a WELL?") == normalised("how do i curse a well")


def test_normalised_keeps_other_scripts():
    assert normalised("Как дела?") == "как дела"


def test_normalised_punctuation_stays_different():
    assert normalised("?!") != normalised("...")


@given(st.text())
def test_normalised_is_idempotent(text):
    assert normalised(normalised(text)) == normalised(text)


@given(PROMPTS)
def test_without_duplicates_keeps_each_prompt_once(prompts):
    kept, dropped = without_duplicates(requests(*prompts))
    assert len({prompt_key(request) for request in kept}) == len(kept) == len(prompts) - dropped


def test_first_of_two_equal_prompts_is_kept():
    assert without_duplicates(requests("a", "A!"))[0][0].id == "set/0"


@given(PROMPTS, st.integers(0, 20))
def test_no_normalised_prompt_stands_in_two_parts(prompts, seed):
    try:
        parts = split_by_prompt(requests(*prompts), {"train": 0.6, "test": 0.4}, seed=seed)
    except UsageError:
        return  # too few different prompts: a part would be empty
    train, test = ({prompt_key(request) for request in parts[name]} for name in ("train", "test"))
    assert not train & test
    assert sum(map(len, parts.values())) == len(prompts)


def test_split_meets_its_fractions_on_average():
    parts = split_by_prompt(many(4000), {"a": 0.5, "b": 0.3, "c": 0.2})
    assert [round(len(part) / 4000, 1) for part in parts.values()] == [0.5, 0.3, 0.2]


def test_split_does_not_depend_on_the_other_rows():
    whole = split_by_prompt(many(200), {"train": 0.5, "test": 0.5})
    half = split_by_prompt(many(100), {"train": 0.5, "test": 0.5})
    assert all(request in whole[name] for name, part in half.items() for request in part)


def test_split_depends_on_the_seed():
    assert split_by_prompt(many(50), {"a": 0.5, "b": 0.5}, seed=1) != split_by_prompt(
        many(50), {"a": 0.5, "b": 0.5}, seed=2
    )


def test_split_by_another_key_holds_whole_groups_out():
    parts = split_by_prompt(many(100), {"a": 0.5, "b": 0.5}, key=lambda request: request.prompt[-1])
    assert not {r.prompt[-1] for r in parts["a"]} & {r.prompt[-1] for r in parts["b"]}


@pytest.mark.parametrize("fractions", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}])
def test_fractions_that_do_not_divide_one_are_refused(fractions):
    with pytest.raises(UsageError, match="expected positive numbers with sum 1"):
        split_by_prompt(many(10), fractions)


def test_empty_part_is_refused():
    with pytest.raises(UsageError, match="too few"):
        split_by_prompt(many(1), {"train": 0.5, "test": 0.5})


@given(st.integers(1, 30), st.integers(0, 5), st.randoms(use_true_random=False))
def test_subsample_does_not_depend_on_the_file_order(limit, seed, random):
    given_set = many(25)
    shuffled = list(given_set)
    random.shuffle(shuffled)
    other = RequestSet(tuple(shuffled), "set", "0" * 64)
    chosen = {request.id for request in subsample(given_set, limit, seed=seed)}
    assert chosen == {request.id for request in subsample(other, limit, seed=seed)}
    assert len(chosen) == min(limit, 25)


def test_smaller_limit_chooses_a_subset():
    assert {r.id for r in subsample(many(50), 5)} < {r.id for r in subsample(many(50), 20)}


def test_a_limit_that_leaves_nothing_out_is_not_worth_a_note():
    assert subsample(many(20), 20) == many(20)
    assert subsample(many(21), 20).notes != many(21).notes


def test_subsample_keeps_file_order():
    numbers = [int(request.id.split("/")[1]) for request in subsample(many(50), 20)]
    assert numbers == sorted(numbers)


def test_subsample_depends_on_the_seed():
    assert subsample(many(50), 10, seed=1).requests != subsample(many(50), 10, seed=2).requests


def test_limit_below_one_is_refused():
    with pytest.raises(UsageError, match="expected 1 or more"):
        subsample(many(5), 0)


def test_absent_kind_says_what_there_is():
    with pytest.raises(UsageError, match="set has no benign requests: it holds 5 harmful"):
        of_kind(many(5), "benign")


def test_overlap_counts_shared_normalised_prompts():
    assert overlap(requests("a", "b", "B?"), requests("B!", "c")) == 1


def test_refuse_overlap_names_the_first_pair():
    with pytest.raises(
        UsageError, match=r"1 prompts stand in training and test data .first: set/1 = other/0"
    ):
        refuse_overlap(requests("a", "b"), requests("B!", name="other"))


def test_disjoint_sets_are_accepted():
    refuse_overlap(requests("a"), requests("b"))
