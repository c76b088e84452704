from __future__ import annotations

import torch

from toxoid.training.copies import frozen_copy, full_copy, with_lora

from .conftest import Loaded, make_loaded


def test_a_full_copy_shares_no_memory(loaded: Loaded):
    copied = full_copy(loaded.model)
    theirs = {weight.data_ptr() for weight in loaded.model.parameters()}
    assert theirs.isdisjoint(weight.data_ptr() for weight in copied.parameters())


def test_a_full_copy_is_trainable_float32():
    model = make_loaded().model.bfloat16().requires_grad_(False)
    assert all(w.requires_grad and w.dtype == torch.float32 for w in full_copy(model).parameters())
    assert all(not w.requires_grad and w.dtype == torch.bfloat16 for w in model.parameters())


def test_tied_weights_stay_tied(loaded: Loaded):
    for copied in (full_copy(loaded.model), frozen_copy(loaded.model)):
        assert copied.lm_head.weight is copied.model.embed_tokens.weight


def test_a_frozen_copy_lies_in_the_same_memory(loaded: Loaded):
    pairs = zip(loaded.model.parameters(), frozen_copy(loaded.model).parameters(), strict=True)
    assert all(a is not b and a.data_ptr() == b.data_ptr() for a, b in pairs)


def test_an_adapter_leaves_the_original_without_one(loaded: Loaded):
    before = [(name, type(module)) for name, module in loaded.model.named_modules()]
    with_lora(frozen_copy(loaded.model), rank=2, alpha=4)
    assert [(name, type(module)) for name, module in loaded.model.named_modules()] == before
    assert all(weight.requires_grad for weight in loaded.model.parameters())


def test_a_fresh_adapter_changes_nothing(loaded: Loaded):
    ids = torch.tensor([[1, 9, 30, 12]])
    adapted = with_lora(frozen_copy(loaded.model), rank=2, alpha=4)
    torch.testing.assert_close(adapted(ids).logits, loaded.model(ids).logits, rtol=0, atol=0)


def test_the_adapter_sits_on_every_linear_layer_but_the_head(loaded: Loaded):
    adapted = with_lora(frozen_copy(loaded.model), rank=2, alpha=4)
    linear = {n for n, m in loaded.model.named_modules() if isinstance(m, torch.nn.Linear)} - {"lm_head"}
    found = {
        n.split(".lora_A")[0].split("base_model.model.")[1]
        for n, _ in adapted.named_parameters()
        if "lora_A" in n
    }
    assert found == linear
