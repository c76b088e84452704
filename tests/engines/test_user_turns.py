"""Tests of engines that write the user's turn."""

from __future__ import annotations

import pytest

from tests.helpers.tiny_models import ARCHITECTURES, FAMILIES, tiny_loaded, tiny_tokenizer
from toxoid.data.schemas import Message, as_dicts, user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.quoting import ASKED_IDENTITY
from toxoid.engines.templates import (
    encode,
    encode_text,
    encode_user_target,
    open_user_text,
    user_turn_end,
)
from toxoid.engines.user_turns import UserTurnEngine
from toxoid.errors import UsageError
from toxoid.training.examples import IGNORED, Example, tokenise

each_family = pytest.mark.parametrize("family", FAMILIES)


@each_family
def test_open_turn_and_target_are_the_turn_that_a_reply_follows(family):
    tokenizer = tiny_tokenizer(family)
    head = encode_text(tokenizer, open_user_text(tokenizer, user("")))
    whole = [*head, *encode_user_target(tokenizer, user(""), "polish the bell")]
    closed = encode(tokenizer, user("polish the bell"))
    assert tokenizer.decode(closed).startswith(tokenizer.decode(whole))


@each_family
def test_user_turn_ends_with_a_special_token_or_with_plain_text(family):
    tokenizer = tiny_tokenizer(family)
    text, token = user_turn_end(tokenizer)
    if family in ("llama2", "mistral"):
        assert (text.strip(), token) == ("[/INST]", None)
    else:
        assert encode_text(tokenizer, text)[-1] == token
        assert token in tokenizer.added_tokens_decoder


def test_system_message_stays_before_the_open_turn():
    tokenizer = tiny_tokenizer("chatml")
    text = open_user_text(tokenizer, user("", "be brief"))
    assert "be brief" in text
    assert text.endswith("<|im_start|>user\n")


def test_earlier_turns_stay_before_the_open_turn():
    conversation = (*user("one"), Message("assistant", "two"), Message("user", ""))
    tokenizer = tiny_tokenizer("gemma")
    whole = tokenizer.apply_chat_template(
        as_dicts((*conversation[:-1], Message("user", "three"))), tokenize=False
    )
    assert whole.startswith(open_user_text(tokenizer, conversation))


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_same_seed_draws_the_same_turns(architecture):
    engine = UserTurnEngine(tiny_loaded(architecture))
    request = GenerationRequest(user(""), sampling=Sampling(max_tokens=8), n=3, seed=5)
    assert engine.generate([request]) == engine.generate([request])


def test_engine_is_not_mistaken_for_one_that_answers():
    loaded = tiny_loaded()
    assert UserTurnEngine(loaded).identity() == {**loaded.identity, **ASKED_IDENTITY, "turn": "user"}


def test_turn_that_plain_text_closes_ends_before_it():
    engine = UserTurnEngine(tiny_loaded("llama", "llama2"))
    closing = engine._closing(GenerationRequest(user(""), sampling=Sampling(stop=("x",))))
    assert closing.sampling.stop == ("x", "[/INST]")


def test_loss_sees_the_users_turn_only():
    tokenizer = tiny_tokenizer("chatml")
    (row,) = tokenise([Example(user("", "be brief"), "ring the bell", turn="user")], tokenizer, 64)
    learnt = [token for token in row.labels if token != IGNORED]
    assert tokenizer.decode(learnt) == "ring the bell<|im_end|>"
    assert tokenizer.decode(row.input_ids).endswith("<|im_start|>user\nring the bell<|im_end|>")


def test_users_turn_has_no_beginning_of_a_reply():
    with pytest.raises(UsageError, match="prefill"):
        Example(user(""), "text", prefill="Sure", turn="user")
