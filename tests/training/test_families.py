from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from toxoid.progress import SilentProgress
from toxoid.training.examples import IGNORED, tokenise
from toxoid.training.sft import SFTConfig, train_sft

from .conftest import Loaded, make_examples, make_tokenizer

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "pad_token_id": 2,
}
FAMILIES = ["Qwen2", "Qwen3", "Mistral", "Gemma", "Gemma2", "Phi3", "GPT2"]
EXAMPLES = make_examples(4)


def family(name: str) -> Loaded:
    tokenizer = make_tokenizer()
    changes = {"sliding_window": 16} if name in ("Mistral", "Gemma2") else {}
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tokenizer), **SIZES | changes)
    if name == "GPT2":  # other names for its sizes, absolute positions, dropout by default
        config = transformers.GPT2Config(
            vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=128, attn_pdrop=0.0, embd_pdrop=0.0,
            resid_pdrop=0.0,
        )  # fmt: skip
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    return Loaded(model, tokenizer, name, {"weights": name})


def masked_loss(loaded: Loaded) -> float:
    """Return the token mean over the examples, each alone under its full attention mask."""
    losses, tokens = 0.0, 0
    for row in tokenise(EXAMPLES, loaded.tokenizer, 128):
        ids, labels = torch.tensor([row.input_ids]), torch.tensor([row.labels])
        count = sum(label != IGNORED for label in row.labels)
        with torch.no_grad():
            loss = loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        losses, tokens = losses + float(loss) * count, tokens + count
    return losses / tokens


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_padded_batch_without_mask_has_the_loss_of_its_rows_alone(name: str, mode: Any, tmp_path: Path):
    loaded = family(name)
    config = SFTConfig(mode=mode, max_steps=1, batch_size=4, bf16=False, save_steps=0, lora_rank=2)
    result = train_sft(
        loaded,
        EXAMPLES,
        config,
        output=tmp_path / "out",
        checkpoints=tmp_path / "c",
        progress=SilentProgress(),
    )
    assert result.losses[0] == pytest.approx(masked_loss(loaded), rel=1e-5)
