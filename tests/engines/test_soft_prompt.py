"""Tests of soft prompts: where they stand in conversations, and how they become vectors."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.helpers.tiny_models import ARCHITECTURES, FAMILIES, tiny_loaded, tiny_model, tiny_tokenizer
from toxoid.data.schemas import Message, user
from toxoid.engines.guided import with_guidance
from toxoid.engines.soft_prompt import Frame, Place, embed, embeddings_of, vectors_of
from toxoid.engines.templates import encode
from toxoid.errors import UsageError

MANUAL = "You are a careful clerk. Do not paint the gate"
CHATS = {
    "one turn": user("polish the bell"),
    "own system message": user("polish the bell", "Count the stones."),
    "more turns": (*user("polish"), Message("assistant", "Sorry."), Message("user", "polish the bell")),
}
# Mistral's templates of late: a system message stands in the last user turn.
LAST_TURN = (
    "{% if messages[0]['role'] == 'system' %}{% set note = messages[0]['content'] %}"
    "{% set turns = messages[1:] %}{% else %}{% set note = '' %}{% set turns = messages %}{% endif %}"
    "{{ bos_token }}{% for m in turns %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + (note + '\n\n' if loop.last and note else '') + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
each_family = pytest.mark.parametrize("family", FAMILIES)
each_chat = pytest.mark.parametrize("chat", CHATS)


def with_template(template: str, family: str = "chatml"):
    tokenizer = copy.deepcopy(tiny_tokenizer(family))
    tokenizer.chat_template = template
    return tokenizer


@each_chat
@each_family
def test_head_manual_prompt_and_rest_are_the_guided_conversation(family: str, chat: str):
    tokenizer = tiny_tokenizer(family)
    place = Place(tokenizer, Frame("system", MANUAL))
    whole = (*place.head, *place.manual_ids(MANUAL), *place.rest(CHATS[chat]))
    assert whole == tuple(encode(tokenizer, with_guidance(CHATS[chat], MANUAL)))


@each_family
def test_the_head_does_not_depend_on_the_manual_prompt(family: str):
    tokenizer = tiny_tokenizer(family)
    heads = {Place(tokenizer, Frame("system", text)).head for text in (MANUAL, "Sure", "the fox")}
    assert len(heads) == 1


@each_chat
def test_in_front_the_conversation_is_left_as_it_is(chat: str):
    tokenizer = tiny_tokenizer("llama3")
    place = Place(tokenizer, Frame("front"))
    assert (place.head, place.rest(CHATS[chat])) == ((), tuple(encode(tokenizer, CHATS[chat])))


@pytest.mark.parametrize("placement", ["system", "front"])
def test_a_prefill_is_part_of_the_rest(placement):
    tokenizer = tiny_tokenizer()
    place = Place(tokenizer, Frame(placement, MANUAL))
    rest = place.rest(user("polish"), prefill="Sure, here")
    assert tokenizer.decode(rest).endswith("Sure, here")


@pytest.mark.parametrize("family", ["llama3", "chatml"])
def test_blanks_around_the_manual_prompt_do_not_matter(family: str):
    tokenizer = tiny_tokenizer(family)
    place = Place(tokenizer, Frame("system", MANUAL + "\n"))
    assert place.head == Place(tokenizer, Frame("system", MANUAL)).head
    assert MANUAL not in tokenizer.decode(place.rest(user("polish")))


def test_where_a_template_moves_system_messages_the_soft_prompt_stays_in_the_first_turn():
    tokenizer = with_template(LAST_TURN, "mistral")
    place, chat = Place(tokenizer, Frame("system", MANUAL)), CHATS["more turns"]
    assert (*place.head, *place.rest(chat)) == tuple(encode(tokenizer, chat))
    assert place.head == tuple(tokenizer("<s>[INST]", add_special_tokens=False)["input_ids"])


def test_a_conversation_that_begins_in_another_way_has_no_place():
    template = "{% if messages | length > 2 %}{{ 'many: ' }}{% endif %}" + LAST_TURN
    place = Place(with_template(template, "mistral"), Frame("system", MANUAL))
    with pytest.raises(UsageError, match="another way than others"):
        place.rest(CHATS["more turns"])


def test_a_template_that_changes_system_prompts_is_refused():
    template = "{% for m in messages %}{{ m['role'] + (m['content'] | upper) + '<|im_end|>' }}{% endfor %}"
    with pytest.raises(UsageError, match="use placement front"):
        Place(with_template(template), Frame("system", MANUAL))


@pytest.mark.parametrize("manual", ["", " \n"])
def test_an_empty_manual_prompt_has_no_place(manual: str):
    with pytest.raises(UsageError, match="is empty"):
        Place(tiny_tokenizer(), Frame("system", manual))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_vectors_of_tokens_give_the_logits_of_the_tokens(architecture: str):
    """Some models scale what they embed (Gemma): the vectors are those after that."""
    loaded = tiny_loaded(architecture)
    own = embeddings_of(loaded.model).num_embeddings
    ids = torch.tensor([encode(loaded.tokenizer, user("polish the bell"))])
    replaced = torch.where(torch.arange(ids.shape[1]) % 3 == 1, own + torch.arange(ids.shape[1]), ids)
    with torch.no_grad():
        vectors = embed(loaded.model, replaced, vectors_of(loaded.model, ids[0].tolist()))
        found = loaded.model(inputs_embeds=vectors).logits
        expected = loaded.model(input_ids=ids).logits
    torch.testing.assert_close(found, expected)


def test_gradients_flow_into_the_rows_that_were_read_and_nowhere_else():
    model = tiny_model().requires_grad_(False)
    own = embeddings_of(model).num_embeddings
    table = torch.randn(3, 32, requires_grad=True)
    model(inputs_embeds=embed(model, torch.tensor([[1, own + 2, own + 1, 5]]), table)).logits.sum().backward()
    assert table.grad is not None
    assert table.grad.abs().sum(1).bool().tolist() == [False, True, True]
    assert all(weight.grad is None for weight in model.parameters())


def test_vectors_have_the_models_type():
    model = tiny_model().bfloat16()
    assert embed(model, torch.tensor([[1, 500]]), torch.zeros(200, 32)).dtype == torch.bfloat16


def test_a_model_that_takes_no_vectors_is_refused():
    class Ids(nn.Module):
        config = tiny_model().config

        def get_input_embeddings(self):
            return nn.Embedding(3, 2)

        def forward(self, input_ids):
            return input_ids

    with pytest.raises(UsageError, match="Ids does not take vectors in place of tokens"):
        embeddings_of(Ids())


def test_a_model_that_looks_ids_up_in_every_layer_is_refused():
    model = tiny_model()
    text = SimpleNamespace(hidden_size_per_layer_input=8)
    model.config.get_text_config = lambda: text
    with pytest.raises(UsageError, match="use manual prompts"):
        embeddings_of(model)
