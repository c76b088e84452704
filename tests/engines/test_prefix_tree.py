"""Tests of how prompts that begin alike are read."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from toxoid.engines.prefix_tree import reading_order, readings, rounds

TEXT = tuple(range(100, 160))
prompts_ = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 40), st.lists(st.integers(0, 2), max_size=4)).map(
        lambda given: (*[given[0]] * (given[0] > 1), *TEXT[: given[1]], *given[2])
    ),
    min_size=1,
    max_size=12,
)


@given(prompts_)
@settings(max_examples=150, deadline=None)
def test_what_is_taken_over_is_the_same_tokens_and_read_before(prompts):
    for prompt, reading in zip(prompts, readings(prompts), strict=True):
        if reading.source is None:
            assert (reading.shared, reading.level) == (0, 0)
            continue
        assert prompt[: reading.shared] == prompts[reading.source][: reading.shared]
        assert len(prompt) // 2 <= reading.shared < len(prompt)
        assert readings(prompts)[reading.source].level == reading.level - 1


@given(prompts_)
@settings(max_examples=100, deadline=None)
def test_every_prompt_is_read_once_after_its_source(prompts):
    plan = readings(prompts)
    steps = rounds(prompts, plan)
    when = {index: step for step, turn in enumerate(steps) for index in turn.members}
    assert (
        sorted(when) == sorted(index for turn in steps for index in turn.members) == list(range(len(prompts)))
    )
    assert all(reading.source is None or when[reading.source] < when[i] for i, reading in enumerate(plan))


@given(prompts_)
@settings(max_examples=100, deadline=None)
def test_at_most_half_of_what_a_reader_computes_was_known(prompts):
    plan = readings(prompts)
    for turn in rounds(prompts, plan):
        own = [len(prompts[index]) - plan[index].shared for index in turn.members]
        assert turn.columns == max(own)
        assert all(plan[index].source is None for index in turn.members) or turn.columns < 2 * min(own)


@given(prompts_)
@settings(max_examples=50, deadline=None)
def test_the_order_is_a_permutation(prompts):
    assert sorted(reading_order(prompts)) == list(range(len(prompts)))


def test_nested_prefixes_are_read_in_two_passes():
    prompts = [TEXT[:length] for length in (12, 60, 30, 45)]
    plan = readings(prompts)
    assert [(reading.source, reading.shared) for reading in plan] == [(1, 11), (None, 0), (1, 29), (1, 44)]
    assert [(turn.columns, len(turn.members)) for turn in rounds(prompts, plan)] == [(60, 1), (1, 3)]


def test_a_prefix_whose_last_token_differs_computes_that_token():
    plan = readings([TEXT, (*TEXT[:30], 7)])
    assert (plan[1].source, plan[1].shared) == (0, 30)


def test_prefixes_of_one_reply_stay_with_it_below_a_common_beginning():
    system = tuple(range(50))
    first, second = (*system, *TEXT[:40]), (*system, *reversed(TEXT))
    prompts = [first, second, first[:70], second[:75]]
    assert [reading.source for reading in readings(prompts)] == [1, None, 0, 1]
    assert reading_order(prompts) == [1, 0, 2, 3]


def test_a_short_common_header_is_read_again():
    assert [reading.source for reading in readings([(*TEXT[:7], 1), (*TEXT[:7], 2)])] == [None, None]


def test_the_order_keeps_families_together_and_then_like_lengths():
    other = tuple(range(300, 330))
    prompts = [TEXT[:20], other, TEXT, other[:15], TEXT[:40]]
    assert reading_order(prompts) == [1, 3, 2, 4, 0]
