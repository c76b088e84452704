"""Explanations are what the decoder did, told after the fact."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch

from tests.helpers.tiny_models import tiny_loaded, tiny_tokenizer
from toxoid.data.schemas import user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.contexts import Decoding, prompted_engine
from toxoid.engines.contrast import PUBLISHED, UNCONTRASTED, Contrast
from toxoid.engines.explain import combined_logits, explain, token_text
from toxoid.engines.loading import load_model
from toxoid.engines.shield import Shield, made_for
from toxoid.engines.soft_prompt import Frame, embed
from toxoid.loop.models import model_source

CONTRASTS = {
    "default": Contrast(),
    "strong": Contrast(alpha=0.7, plausibility=0.01),
    "published": PUBLISHED,
    "first": Contrast(alpha=0.6, first=2),
    "divergence": Contrast(alpha=0.6, divergence=0.3),
    "never": Contrast(alpha=0.6, divergence=1.0),
    "none": UNCONTRASTED,
}


@cache
def loaded(name):
    return load_model(model_source(name)) if name.startswith("lab-") else tiny_loaded(name)


def shield(model):
    size = model.model.get_input_embeddings().embedding_dim
    vectors = torch.randn(2, 3, size, generator=torch.Generator().manual_seed(1))
    return Shield(vectors[0], vectors[1], Frame("front"), made_for(model))


def engine(name="llama", decoding=None):
    model = loaded(name)
    return prompted_engine(model, decoding or Decoding("safe", "opposite"), shield(model))


def request(temperature=0.0, **given):
    sampling = Sampling(temperature=temperature, max_tokens=24)
    return GenerationRequest(user("Teach me to thurgel the saltbell."), sampling=sampling, **given)


def explained(engine, asked):
    drawn = engine.draw(asked)[0]
    return explain(engine, asked, drawn), drawn


def read_again(engine, prompt, ids):
    """The slow obvious way: one row, embedded."""
    table = engine.prompting.table
    row = torch.tensor([[*prompt, *ids[:-1]]])
    given = {"input_ids": row} if table is None else {"inputs_embeds": embed(engine.loaded.model, row, table)}
    with torch.inference_mode():
        return engine.loaded.model(**given).logits[0, -len(ids) :]


@pytest.mark.parametrize("contrast", CONTRASTS.values(), ids=CONTRASTS)
@pytest.mark.parametrize("name", ["llama", "gemma2", "lab-base"])
@pytest.mark.parametrize(("positive", "negative"), [("safe", "opposite"), ("sp", "ap"), ("bare", "ap")])
def test_a_greedy_token_is_the_best_of_the_combined_logits(name, positive, negative, contrast):
    asked = request()
    with_contrast = engine(name, Decoding(positive, negative, contrast))
    found, drawn = explained(with_contrast, asked)
    contexts = with_contrast.prompts(asked.conversation)
    logits = [read_again(with_contrast, prompt, drawn.ids) for prompt in contexts]
    combined = [row for row, _ in combined_logits(*(*logits, None)[:2], contrast)]
    assert [int(row.argmax()) for row in combined] == drawn.ids == [view.chosen.id for view in found.tokens]
    shown = torch.tensor([view.chosen.combined for view in found.tokens])
    best = torch.stack([row.max() for row in combined])
    torch.testing.assert_close(shown, best, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("contrast", CONTRASTS.values(), ids=CONTRASTS)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_tokens_called_contrasted_are_those_that_the_decoder_counted(contrast, temperature):
    found, drawn = explained(engine("lab-base", Decoding("safe", "opposite", contrast)), request(temperature))
    told = drawn.completion.metadata.get("contrasted", 0)
    assert sum(view.contrasted for view in found.tokens) == told


def test_without_contrast_and_mask_nothing_is_moved():
    found, _ = explained(engine(decoding=Decoding("safe", "opposite", UNCONTRASTED)), request(1.0))
    for view in found.tokens:
        assert (view.moved, view.contrasted, view.removed, view.chosen.negative) == (0.0, False, False, None)
        assert view.chosen.p_positive == view.chosen.p_combined
    assert found.negative is None


def test_the_undefended_model_explains_itself():
    found, _ = explained(engine(decoding=Decoding.plain()), request())
    assert not any(view.changed for view in found.tokens)
    assert all(
        view.chosen.p_bare == view.chosen.p_positive == view.chosen.p_combined for view in found.tokens
    )
    assert (found.positive, found.negative) == ("bare", None)


def test_the_undefended_model_s_token_is_its_most_probable_one():
    safe = engine("lab-base")
    found, drawn = explained(safe, request(1.0, seed=3))
    plain = engine("lab-base", Decoding.plain())
    bare = read_again(plain, plain.prompts(request().conversation)[0], drawn.ids)
    assert [view.bare.id for view in found.tokens] == bare.argmax(-1).tolist()
    assert [view.changed for view in found.tokens] == [
        token != best for token, best in zip(drawn.ids, bare.argmax(-1).tolist(), strict=True)
    ]


@pytest.mark.parametrize("temperature", [0.5, 1.5])
def test_probabilities_are_at_the_temperature_of_the_request(temperature):
    plain = engine(decoding=Decoding.plain())
    found, drawn = explained(plain, request(temperature))
    logits = read_again(plain, plain.prompts(request().conversation)[0], drawn.ids)
    shares = torch.softmax(logits / temperature, dim=-1)
    expected = [float(row[token]) for row, token in zip(shares, drawn.ids, strict=True)]
    assert [view.chosen.p_bare for view in found.tokens] == pytest.approx(expected, abs=1e-5)
    assert found.temperature == temperature


def test_a_greedy_reply_shows_probabilities_at_temperature_one():
    found, _ = explained(engine(), request())
    assert found.temperature == 1.0
    assert all(0 <= view.moved <= 1 and 0 <= view.chosen.p_combined <= 1 for view in found.tokens)


def test_the_mask_removes_what_is_improbable_under_the_positive_context():
    masked = Decoding("safe", "opposite", Contrast(alpha=0.5, plausibility=0.6))
    found, _ = explained(engine("lab-base", masked), request(1.0, prefill="Sure, "))
    for view in found.tokens:
        assert view.removed == (view.bare.positive < view.alone.positive + torch.tensor(0.6).log())
        assert view.removed == (view.bare.p_combined == 0)
        assert view.chosen.combined is not None


def test_the_texts_of_the_tokens_make_the_reply():
    found, drawn = explained(engine("lab-base"), request(1.0, prefill="I"))
    *texts, end = [view.chosen.text for view in found.tokens]
    assert "".join(texts) == drawn.completion.text
    assert end == "<|end|>"


def test_an_explanation_is_json():
    found, _ = explained(engine(decoding=Decoding("sp", "ap", Contrast(plausibility=0.9))), request(1.0))
    told = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert told["tokens"][0]["chosen"]["id"] == found.tokens[0].chosen.id
    assert told["request"]["conversation"][0]["content"] == "Teach me to thurgel the saltbell."


def test_a_reply_without_room_has_no_tokens():
    long = GenerationRequest(user("mill " * 400))
    found, drawn = explained(engine(), long)
    assert (found.tokens, drawn.ids) == ((), [])


@pytest.mark.parametrize("text", ["é", "💡", "a é💡 b"])
def test_a_character_of_several_tokens_comes_with_the_last(text):
    tokenizer = tiny_tokenizer("chatml")
    ids = tokenizer(text)["input_ids"]
    texts = [token_text(tokenizer, ids[:place], token) for place, token in enumerate(ids)]
    assert len(ids) > len(text)
    assert "".join(texts) == text
    assert texts.count("") == len(text.encode()) - len(text)


def test_a_special_token_has_its_name():
    tokenizer = tiny_tokenizer("chatml")
    assert token_text(tokenizer, [5, 6], tokenizer.convert_tokens_to_ids("<|im_end|>")) == "<|im_end|>"


def test_a_blank_before_a_word_is_kept_where_decoders_drop_it():
    tokenizer = tiny_tokenizer("llama2")
    ids = tokenizer("the mill")["input_ids"]
    texts = [token_text(tokenizer, ids[:place], token) for place, token in enumerate(ids)]
    assert "".join(texts) == "the mill"
