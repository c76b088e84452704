"""QLoRA: the base in 4 bits, the caller's model as it was, an adapter like any other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.helpers.tiny_models import tiny_loaded
from toxoid.engines.loading import adapted
from toxoid.errors import UsageError
from toxoid.progress import SILENT
from toxoid.training.copies import four_bit_copy, trainable_copy
from toxoid.training.settings import TrainingConfig
from toxoid.training.sft import SFTConfig, train_sft

from .conftest import make_examples

IDS = torch.tensor([[5, 40, 80, 200, 7, 60]])


def without_bitsandbytes(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)


def test_without_the_package_the_extra_is_named(monkeypatch):
    without_bitsandbytes(monkeypatch)
    with pytest.raises(
        UsageError, match=r'bitsandbytes, which is not installed: pip install "toxoid\[qlora\]"'
    ):
        trainable_copy(tiny_loaded().model, TrainingConfig(mode="qlora"))


def test_the_other_modes_do_without_the_package(monkeypatch):
    without_bitsandbytes(monkeypatch)
    for mode in ("lora", "full"):
        trainable_copy(tiny_loaded().model, TrainingConfig(mode=mode))


class TestWithThePackage:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("bitsandbytes")

    def test_every_linear_layer_but_the_head_is_in_4_bits(self):
        from bitsandbytes.nn import Linear4bit

        model = tiny_loaded().model
        copied = four_bit_copy(model)
        linear = {name for name, part in model.named_modules() if isinstance(part, nn.Linear)} - {"lm_head"}
        assert {name for name, part in copied.named_modules() if isinstance(part, Linear4bit)} == linear
        layer, given = copied.model.layers[0].mlp.up_proj, model.model.layers[0].mlp.up_proj
        assert layer.weight.dtype == torch.uint8
        assert layer.weight.numel() * 2 == given.weight.numel()

    def test_the_callers_model_is_not_changed(self):
        loaded = tiny_loaded()
        before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
        four_bit_copy(loaded.model)
        after = loaded.model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert not hasattr(loaded.model, "is_loaded_in_4bit")

    def test_a_layer_computes_with_its_weights_up_to_the_rounding_of_4_bits(self):
        given = tiny_loaded("llama", hidden_size=128).model
        inputs = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
        exact = given.model.layers[0].self_attn.q_proj(inputs)
        rough = four_bit_copy(given).model.layers[0].self_attn.q_proj(inputs)
        assert 0 < (exact - rough).norm() / exact.norm() < 0.12  # NF4 in blocks of 64: about 0.09

    def test_a_bias_is_kept(self):
        model = tiny_loaded("qwen2").model
        with torch.no_grad():
            model.model.layers[0].self_attn.q_proj.bias.fill_(0.5)
        bias = four_bit_copy(model).model.layers[0].self_attn.q_proj.bias
        assert torch.equal(bias, torch.full_like(bias, 0.5))

    def test_the_base_gets_no_gradient_and_the_adapter_does(self):
        model = trainable_copy(tiny_loaded().model, TrainingConfig(mode="qlora", lora_rank=2))
        model(IDS).logits.logsumexp(-1).sum().backward()
        trained = {name for name, weight in model.named_parameters() if weight.grad is not None}
        assert trained
        assert all("lora_" in name for name in trained)

    def test_short_weights_around_the_linear_layers_become_float32(self):
        model = tiny_loaded().model.bfloat16()
        copied = four_bit_copy(model)
        assert copied.model.norm.weight.dtype == torch.float32
        assert model.model.norm.weight.dtype == torch.bfloat16

    def test_a_model_without_linear_layers_is_refused(self):
        class Bare(nn.Module):
            def get_output_embeddings(self):
                return None

        with pytest.raises(UsageError, match=r"Bare has no linear layers.*set mode to lora"):
            four_bit_copy(Bare())

    def test_the_adapter_loads_on_the_model_in_full_precision(self, tmp_path: Path):
        loaded, examples = tiny_loaded(), make_examples(8)
        config = SFTConfig(mode="qlora", lora_rank=2, max_steps=6, batch_size=4, learning_rate=0.01)
        with torch.no_grad():
            before = loaded.model(IDS).logits
        result = train_sft(
            loaded, examples, config, output=tmp_path / "out", checkpoints=tmp_path / "steps", progress=SILENT
        )
        assert result.kind == "adapter"
        assert result.losses[-1] < result.losses[0]
        with torch.no_grad():
            assert torch.equal(loaded.model(IDS).logits, before)
            assert not torch.allclose(adapted(loaded, result.path).model(IDS).logits, before)
