"""Tests of the tokenisation of conversations."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.tiny_models import FAMILIES, tiny_model, tiny_tokenizer
from toxoid.data.schemas import Message, as_dicts, user
from toxoid.engines.templates import (
    encode,
    encode_target,
    end_of_turn_ids,
    fold_system,
    open_text,
    template_hash,
    turn_end,
    turn_seam,
)
from toxoid.errors import UsageError

ASK = user("polish the bell")
each_family = pytest.mark.parametrize("family", FAMILIES)


def closed_ids(tokenizer, conversation, reply):
    messages = as_dicts((*conversation, Message("assistant", reply)))
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def with_template(template, family="chatml"):
    tokenizer = copy.deepcopy(tiny_tokenizer(family))
    tokenizer.chat_template = template
    return tokenizer


@each_family
def test_without_prefill_the_prompt_is_the_templates_own(family):
    tokenizer = tiny_tokenizer(family)
    expected = tokenizer.apply_chat_template(as_dicts(ASK), tokenize=False, add_generation_prompt=True)
    assert open_text(tokenizer, ASK) == expected


@each_family
@pytest.mark.parametrize("prefill", ["Sure", "Sure, here is", "Sorry, I will not"])
def test_prefill_is_a_token_prefix_of_the_closed_turn(family, prefill):
    tokenizer = tiny_tokenizer(family)
    opened = encode(tokenizer, ASK, prefill=prefill)
    assert closed_ids(tokenizer, ASK, prefill + " the mill")[: len(opened)] == opened


@each_family
def test_prompt_and_target_together_are_the_closed_turn(family):
    tokenizer = tiny_tokenizer(family)
    whole = encode(tokenizer, ASK) + encode_target(tokenizer, "Sure, here is the bell.")
    assert closed_ids(tokenizer, ASK, "Sure, here is the bell.")[: len(whole)] == whole


@each_family
def test_prefill_and_rest_together_are_the_closed_turn(family):
    tokenizer = tiny_tokenizer(family)
    rest = encode_target(tokenizer, " how to polish a bell.", prefill="Sure, here is")
    whole = encode(tokenizer, ASK, prefill="Sure, here is") + rest
    assert closed_ids(tokenizer, ASK, "Sure, here is how to polish a bell.")[: len(whole)] == whole


@each_family
def test_prefill_leaves_the_turn_open(family):
    tokenizer = tiny_tokenizer(family)
    opened, end = encode(tokenizer, ASK, prefill="Sure"), turn_end(tokenizer).token
    assert opened[-1] != end
    assert opened.count(end) == encode(tokenizer, ASK).count(end)


@each_family
def test_no_second_beginning_of_sequence(family):
    tokenizer = tiny_tokenizer(family)
    assert encode(tokenizer, ASK, prefill="Sure").count(tokenizer.bos_token_id) <= 1


@each_family
def test_target_ends_with_the_familys_end_of_turn(family):
    tokenizer = tiny_tokenizer(family)
    expected = tokenizer.convert_tokens_to_ids(FAMILIES[family].end)
    assert encode_target(tokenizer, "Sure.")[-1] == expected == turn_end(tokenizer).token


@each_family
def test_empty_target_is_the_end_of_the_turn(family):
    tokenizer = tiny_tokenizer(family)
    assert encode_target(tokenizer, "")[-1] == turn_end(tokenizer).token
    assert tokenizer.decode(encode_target(tokenizer, ""), skip_special_tokens=True).strip() == ""


@each_family
def test_system_text_reaches_the_prompt_in_every_family(family):
    text = open_text(tiny_tokenizer(family), user("polish the bell", "be a careful clerk"))
    assert text.count("be a careful clerk") == 1
    assert text.index("be a careful clerk") < text.index("polish the bell")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(FAMILIES)), st.text("abc ,.\n'é▁漢", max_size=12), st.text("abc ,.\n", max_size=8)
)
def test_any_prefill_is_the_beginning_of_the_closed_turns_text(family, prefill, rest):
    tokenizer = tiny_tokenizer(family)
    opened = open_text(tokenizer, ASK, prefill=prefill)
    closed = open_text(tokenizer, ASK, prefill=prefill + rest + "z")
    assert closed.startswith(opened)
    assert opened.startswith(open_text(tokenizer, ASK))


def test_a_template_that_trims_gets_the_prefill_trimmed_as_in_training():
    assert open_text(tiny_tokenizer("llama2"), ASK, prefill="  Sure ").endswith("[/INST] Sure ")


def test_system_is_folded_where_the_template_leaves_it_out():
    silent = with_template(
        "{% for m in messages if m['role'] != 'system' %}{{ m['content'] + eos_token }}{% endfor %}"
    )
    assert "be brief\n\npolish" in open_text(silent, user("polish", "be brief"))


def test_folding_joins_all_system_messages_before_the_first_user():
    conversation = (
        Message("system", "a"),
        Message("system", "b"),
        Message("user", "c"),
        Message("user", "d"),
    )
    assert fold_system(conversation) == (Message("user", "a\n\nb\n\nc"), Message("user", "d"))


def test_folding_without_a_user_makes_one():
    assert fold_system((Message("system", "a"),)) == (Message("user", "a"),)


def test_a_conversation_the_template_refuses_is_a_usage_error_with_its_reason():
    twice = (Message("user", "a"), Message("user", "b"))
    with pytest.raises(UsageError, match=r"refuses the conversation \(roles must alternate.*--chat-template"):
        encode(tiny_tokenizer("gemma"), twice)


def test_a_template_without_generation_prompt_still_opens_the_assistant_turn():
    tokenizer = with_template(
        "{% for m in messages %}"
        "{{ '<|im_start|>' + m['role'] + ': ' + m['content'] + '<|im_end|>' }}{% endfor %}"
    )
    assert open_text(tokenizer, ASK).endswith("<|im_end|><|im_start|>assistant:")
    assert open_text(tokenizer, ASK, prefill="Sure").endswith("<|im_start|>assistant: Sure")


def test_a_generation_prompt_unlike_the_closed_turn_gets_the_prefill_appended():
    tokenizer = with_template(
        FAMILIES["chatml"].template.replace("assistant\\n' }}", "assistant\\n<think>' }}")
    )
    assert open_text(tokenizer, ASK, prefill="Sure").endswith("assistant\n<think>Sure")


def test_the_date_in_a_prompt_does_not_move():
    tokenizer = with_template("{{ strftime_now('%Y-%m-%d, %B') }}" + FAMILIES["chatml"].template)
    assert open_text(tokenizer, ASK).startswith("2025-01-01, January<")


@pytest.mark.parametrize(
    ("family", "seam"), [("chatml", ""), ("llama2", " "), ("zephyr", "\n"), ("phi3", "")]
)
def test_seam_is_the_blank_between_header_and_content(family, seam):
    assert turn_seam(tiny_tokenizer(family)) == seam


def test_a_plain_text_template_ends_its_turn_with_eos():
    tokenizer = with_template(
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
    )
    assert turn_end(tokenizer).token == tokenizer.eos_token_id
    assert encode_target(tokenizer, "Sure")[-1] == tokenizer.eos_token_id


def test_no_end_at_all_is_a_usage_error():
    tokenizer = with_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    tokenizer.eos_token = None
    with pytest.raises(UsageError, match="--chat-template"):
        turn_end(tokenizer)


def test_stop_ids_hold_eos_the_generation_configs_and_the_turns_end():
    tokenizer, model = tiny_tokenizer("llama3"), tiny_model("llama")
    model.generation_config.eos_token_id = [7, 8]
    assert end_of_turn_ids(tokenizer, model) == {7, 8, tokenizer.eos_token_id, turn_end(tokenizer).token}


def test_template_hash_changes_with_the_template_only():
    same, other = with_template(FAMILIES["chatml"].template), with_template(FAMILIES["chatml"].template + " ")
    assert template_hash(same) == template_hash(tiny_tokenizer("chatml")) != template_hash(other)
