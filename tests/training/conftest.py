"""A tiny chat model and examples for the tests of training."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from toxoid.data.schemas import user
from toxoid.training.examples import Example

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ["<s>", "<|end|>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>"]
WORDS = ["moss", "lamps", "turn", "blue", "when", "rain", "sings", "over", "copper", "hills", "and", "owls"]


@dataclass(frozen=True)
class Loaded:
    """Stands for the engine's loaded model: the same four fields."""

    model: Any
    tokenizer: Any
    source: str
    identity: dict[str, Any]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of single characters."""
    letters = [chr(code) for code in range(32, 127)]
    vocabulary = {token: index for index, token in enumerate([*SPECIALS, *letters])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    raw.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<s>",
        eos_token="<|end|>",
        pad_token="<pad>",
        additional_special_tokens=SPECIALS[3:],
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_loaded(seed: int = 1, **changes: Any) -> Loaded:
    """Return a random Llama of some thousand parameters."""
    tokenizer = make_tokenizer()
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    } | changes
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**settings)).eval()
    return Loaded(model, tokenizer, "tiny-llama", {"kind": "local", "weights": f"seed {seed}"})


def make_examples(count: int, seed: int = 0) -> list[Example]:
    """Return examples of unlike lengths."""
    rng = random.Random(seed)
    return [
        Example(
            conversation=user(" ".join(rng.choices(WORDS, k=rng.randint(1, 5)))),
            target=" ".join(rng.choices(WORDS, k=rng.randint(1, 3))),
            source="made up",
        )
        for _ in range(count)
    ]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture
def loaded() -> Loaded:
    return make_loaded()
