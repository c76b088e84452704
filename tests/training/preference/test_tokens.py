from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from tests.helpers.tiny_models import tiny_tokenizer
from toxoid.data.groups import Group, RankedReply
from toxoid.data.schemas import user
from toxoid.engines.templates import encode, encode_target
from toxoid.training.preference import Objective, PreferenceExample
from toxoid.training.preference.layout import lay_out
from toxoid.training.preference.tokens import groups_hash, tokenise_groups

from ..conftest import make_tokenizer
from .helpers import compared, nested_group, random_examples

BOTH = Objective(imitation=1.0)


def turning(text: str, turn: str, trunk: str = "") -> PreferenceExample:
    """Return a group whose first reply is imitated from where ``turn`` begins."""
    replies = (RankedReply(text, 0), RankedReply("owls", 1))
    return PreferenceExample(
        Group("g", user("hills"), replies, trunk=trunk), ((0, 1, 1.0),), ((0, text.index(turn)),)
    )


@pytest.mark.parametrize("family", ["chatml", "llama2", "llama3", "mistral", "gemma", "zephyr", "phi3"])
def test_tokens_are_those_of_supervised_examples(family: str):
    tokenizer = tiny_tokenizer(family)
    (group,) = tokenise_groups([turning("the fox. But stones", "But", "well ")], tokenizer, BOTH, 200)
    assert list(group.context) == encode(tokenizer, user("hills"), prefill="well ")
    assert list(group.replies[0]) == encode_target(tokenizer, "the fox. But stones", prefill="well ")


@pytest.mark.parametrize("trunk", ["", "well "])
@pytest.mark.parametrize("family", ["chatml", "llama2", "llama3", "mistral", "gemma", "zephyr", "phi3"])
def test_imitation_begins_with_the_word_that_turns(family: str, trunk: str):
    tokenizer = tiny_tokenizer(family)
    (group,) = tokenise_groups([turning("the fox. But stones", "But", trunk)], tokenizer, BOTH, 200)
    ((index, start),) = group.imitated
    learnt = tokenizer.decode(group.replies[index][start:], skip_special_tokens=True)
    assert learnt.strip() == "But stones"


def test_imitation_within_a_word_takes_no_token_before_it_along_and_misses_none():
    text = "copper hills"
    for start in range(len(text)):
        example = replace(turning(text, "c"), imitated=((0, start),))
        (group,) = tokenise_groups([example], make_tokenizer(), BOTH, 200)
        assert group.imitated == ((0, start),)


def test_the_left_of_a_context_is_cut_for_all_replies_alike():
    group = nested_group(random.Random(0))
    long = replace(group, conversation=user("rain " * 40))
    tokenizer = make_tokenizer()
    groups = tokenise_groups([compared(group), compared(long)], tokenizer, BOTH, 120)
    longest = max(map(len, groups[1].replies))
    assert (len(groups), groups.cut, groups.dropped) == (2, 1, 0)
    assert len(groups[1].context) == 120 - longest
    assert groups[1].context[0] == tokenizer.bos_token_id


def test_a_group_whose_longest_reply_does_not_fit_is_dropped():
    examples = [compared(nested_group(random.Random(seed))) for seed in range(3)]
    sizes = sorted(max(len(reply.text) for reply in example.group.replies) for example in examples)
    groups = tokenise_groups(
        examples, make_tokenizer(), BOTH, sizes[-1] + 1
    )  # the end of the turn leaves no room
    assert (len(groups), groups.dropped) == (2, 1)


def test_without_preferences_only_imitated_replies_remain():
    given = Objective(weight=0.0, imitation=1.0)
    examples = random_examples(0)
    examples[1] = replace(examples[1], imitated=())
    groups = tokenise_groups(examples, make_tokenizer(), given, 200)
    assert [len(group.replies) for group in groups] == [2, 2]
    assert all(group.pairs == () for group in groups)


def test_without_imitation_a_tail_is_not_kept():
    groups = tokenise_groups(random_examples(0), make_tokenizer(), Objective(), 200)
    assert all(group.imitated == () for group in groups)


def test_the_hash_tells_weights_and_orders_apart():
    def hashed(example: Any) -> str:
        return groups_hash(tokenise_groups([example], make_tokenizer(), BOTH, 200), [])

    example = turning("blue when", "when")
    pairs, texts = example.pairs, example.group.replies
    others = [
        replace(example, pairs=((0, 1, 2.0),)),
        replace(example, pairs=((1, 0, 1.0),)),
        replace(example, imitated=((0, 0),)),
        replace(
            example, group=replace(example.group, replies=(replace(texts[0], text="blue then"), texts[1]))
        ),
    ]
    assert len({hashed(example), *map(hashed, others)}) == 5
    assert hashed(replace(example, pairs=pairs)) == hashed(example)


def test_a_group_of_two_is_an_ordinary_pair():
    example = turning("rain", "rain")
    (group,) = tokenise_groups([example], make_tokenizer(), Objective(), 200)
    layout = lay_out(group, shared=True)
    assert len(layout) == len(group.context) + len("rain") + len("owls") + 2
    assert len(layout.targets) == len("rain") + len("owls") + 2
    assert (layout.chosen.tolist(), layout.rejected.tolist()) == ([0], [1])
