"""Tests of the adversaries and of their options."""

from __future__ import annotations

import pytest

from tests.helpers.scripted_engine import ScriptedEngine
from tests.helpers.tiny_models import tiny_loaded
from toxoid.config.loading import validate
from toxoid.engines.base import Sampling
from toxoid.errors import UsageError
from toxoid.methods.adversarial_tuning.adversary import (
    ChatAdversary,
    RandomData,
    UserTurnAdversary,
    local_adversary,
    tune_adversary,
    with_adapters,
)
from toxoid.methods.adversarial_tuning.options import AdversarialTuningOptions, AdversaryOptions
from toxoid.progress import SILENT
from toxoid.training.sft import SFTConfig

SUCCESSES = [f"success number {i}" for i in range(20)]


def chat(reply=lambda request, i: "proposal", few_shot=10):
    engine = ScriptedEngine(reply)
    return ChatAdversary(engine, Sampling(), few_shot=few_shot), engine


def shown(conversation):
    return [text for text in SUCCESSES if f"- {text}\n" in conversation[-1].content]


def test_chat_adversary_is_shown_ten_successes_drawn_anew_for_each_proposal():
    adversary, engine = chat()
    adversary.propose(5, SUCCESSES, seed=0)
    drawn = [tuple(shown(request.conversation)) for request in engine.asked]
    assert [len(texts) for texts in drawn] == [10] * 5
    assert len(set(drawn)) > 1


def test_chat_adversary_without_successes_is_shown_none():
    adversary, engine = chat()
    adversary.propose(1, [], seed=0)
    assert "- " not in engine.asked[0].conversation[-1].content


def test_proposals_depend_on_the_seed():
    first, second, third = (chat() for _ in range(3))
    for (adversary, _), seed in ((first, 1), (second, 1), (third, 2)):
        adversary.propose(3, SUCCESSES, seed=seed)
    assert first[1].asked == second[1].asked != third[1].asked


def test_reply_that_was_cut_off_is_no_proposal():
    adversary, _ = chat(lambda request, i: None)
    assert adversary.propose(3, [], seed=0) == []


def test_chat_adversary_learns_in_the_words_in_which_it_is_asked():
    adversary, engine = chat(few_shot=3)
    adversary.propose(1, SUCCESSES[:3], seed=0)
    learnt = adversary.examples(SUCCESSES[:4], seed=0)
    assert [example.target for example in learnt] == SUCCESSES[:4]
    for example in learnt:
        assert example.target not in shown(example.conversation)
        assert len(shown(example.conversation)) == 3
        plain = [_without_examples(c) for c in (example.conversation, engine.asked[0].conversation)]
        assert plain[0] == plain[1]


def _without_examples(conversation):
    return [[line for line in m.content.split("\n") if not line.startswith("- ")] for m in conversation]


def test_user_turn_adversary_learns_whole_user_turns():
    adversary = UserTurnAdversary(tiny_loaded(), Sampling())
    (example,) = adversary.examples(["a request"], seed=0)
    assert (example.turn, example.target, example.conversation[-1].content) == ("user", "a request", "")


def test_user_turn_adversary_learns_to_write_its_successes(tmp_path):
    options = AdversaryOptions(mode="user-turn", max_tokens=24, temperature=0.3)

    def load():
        return tiny_loaded("qwen2")

    examples = local_adversary(load(), options).examples(["paint the gate"] * 4, seed=0)
    config = SFTConfig(learning_rate=0.03, max_steps=20, batch_size=4, lora_rank=8)
    tune_adversary(load(), examples, config, tmp_path / "one", progress=SILENT)
    once = with_adapters(load, [tmp_path / "one"])
    proposals = local_adversary(once, options).propose(8, [], seed=0)
    assert proposals.count("paint the gate") >= 6
    tune_adversary(once, examples, config, tmp_path / "two", progress=SILENT)
    twice = with_adapters(load, [tmp_path / "one", tmp_path / "two"])
    assert twice.identity["adapter"] != with_adapters(load, [tmp_path / "one"]).identity["adapter"]


def test_random_data_comes_from_the_pool_in_an_order_of_the_seed():
    pool = [f"text {i}" for i in range(50)]
    drawn = RandomData(pool).propose(20, [], seed=3)
    assert len(set(drawn)) == 20
    assert set(drawn) <= set(pool)
    assert drawn == RandomData(pool[::-1]).propose(20, [], seed=3)
    assert drawn != RandomData(pool).propose(20, [], seed=4)


def test_random_data_ends_with_its_pool_and_learns_nothing():
    assert sorted(RandomData(["a", "b"]).propose(9, [], seed=0)) == ["a", "b"]
    assert RandomData(["a"]).examples(["b"], seed=0) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"rounds": 6}, "rounds"),
        ({"candidates": 0}, "candidates"),
        ({"adversary": {"mode": "chatty"}}, "mode"),
        ({"adversary": {"few_shot": 11}}, "few_shot"),
        ({"control": "random"}, "control"),
    ],
)
def test_impossible_options_are_refused(given, told):
    with pytest.raises(UsageError, match=told):
        validate(AdversarialTuningOptions, given, source="options")
