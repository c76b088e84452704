"""Attention of single tokens: what it gives is what ``sdpa`` gives, in 32 bits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.helpers.tiny_models import tiny_model
from toxoid.engines.decoding import Continuation, Node, decode
from toxoid.engines.row_attention import faster_attention, row_attention


def states(tokens: int, rows: int = 5, heads: int = 4, groups: int = 2, columns: int = 9):
    """Return queries, keys and values in bfloat16, and a mask that hides the first columns of some rows."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((rows, heads, tokens, 8), (rows, groups, columns, 8), (rows, groups, columns, 8))
    query, key, value = (torch.randn(shape, generator=generator).bfloat16() for shape in shapes)
    mask = torch.arange(columns) >= torch.arange(rows)[:, None]
    return query, key, value, mask[:, None, None].expand(rows, 1, tokens, columns)


def layer(groups: int) -> torch.nn.Module:
    module = torch.nn.Module()
    module.num_key_value_groups = groups
    return module


@pytest.mark.parametrize("masked", [True, False])
def test_a_token_attends_as_exactly_as_in_32_bits(masked):
    query, key, value, mask = states(1)
    given = mask if masked else None
    found, _ = row_attention(layer(2), query, key, value, given, scaling=0.3)
    keys, values = (each.float().repeat_interleave(2, 1) for each in (key, value))
    expected = functional.scaled_dot_product_attention(query.float(), keys, values, given, scale=0.3)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.transpose(1, 2).bfloat16())


def test_several_tokens_attend_as_they_did():
    query, key, value, mask = states(3)
    found, _ = row_attention(layer(2), query, key, value, mask, scaling=0.3)
    keys, values = (each.repeat_interleave(2, 1) for each in (key, value))
    expected = functional.scaled_dot_product_attention(query, keys, values, mask, scale=0.3)
    assert torch.equal(found, expected.transpose(1, 2))


def test_a_model_gets_its_attention_back():
    model = tiny_model("llama").bfloat16()
    before = model.config._attn_implementation

    def fail():
        with faster_attention(model):
            assert model.config._attn_implementation != before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert model.config._attn_implementation == before


def test_models_in_32_bits_and_other_attentions_are_left_alone():
    full, eager = tiny_model("llama"), tiny_model("llama").bfloat16()
    eager.set_attn_implementation("eager")
    for model in (full, eager):
        before = model.config._attn_implementation
        with faster_attention(model):
            assert model.config._attn_implementation == before


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "mistral", "gemma", "phi3"])
def test_decoding_in_16_bits_goes_on_in_it(architecture, monkeypatch):
    model = tiny_model(architecture).bfloat16()
    calls = []
    real = functional.scaled_dot_product_attention
    monkeypatch.setattr(
        functional,
        "scaled_dot_product_attention",
        lambda query, *more, **options: calls.append(query.dtype) or real(query, *more, **options),
    )
    path = Continuation(3, 0.0, 1.0, ())
    decode(model, [Node((5, 6, 7), [path])], end_ids=frozenset())
    layers = model.config.num_hidden_layers
    assert calls == [torch.bfloat16] * layers + [torch.float32] * 2 * layers
