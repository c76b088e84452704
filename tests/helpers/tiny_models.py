"""Tiny random checkpoints of the common architectures, with chat templates of the common families."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from toxoid.engines.loading import LoadedModel

_STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}{% endfor %}"
)
_LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set note = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set note = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% set text = (note if loop.first else '') + m['content'] %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + text.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + text.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Family:
    """A chat template and the special tokens that it needs."""

    template: str
    bos: str
    eos: str
    end: str
    others: tuple[str, ...] = ()
    pieces: bool = False  # blanks as in SentencePiece, instead of as bytes


FAMILIES = {
    "chatml": Family(
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        "<|endoftext|>",
        "<|endoftext|>",
        "<|im_end|>",
        ("<|im_start|>",),
    ),
    "llama2": Family(_LLAMA2, "<s>", "</s>", "</s>", pieces=True),
    "llama3": Family(
        "{{ bos_token }}{% for m in messages %}"
        "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n'"
        " + (m['content'] | trim) + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        ("<|start_header_id|>", "<|end_header_id|>"),
    ),
    "mistral": Family(
        _STRICT + "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}"
        "{% endif %}{% endfor %}",
        "<s>",
        "</s>",
        "</s>",
        pieces=True,
    ),
    "gemma": Family(
        _STRICT + "{{ bos_token }}{% for m in messages %}"
        "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n'"
        " + (m['content'] | trim) + '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}",
        "<bos>",
        "<eos>",
        "<end_of_turn>",
        ("<start_of_turn>",),
    ),
    "zephyr": Family(
        "{% for m in messages %}"
        "{{ '<|' + m['role'] + '|>\\n' + m['content'] + eos_token + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
        "<s>",
        "</s>",
        "</s>",
    ),
    "phi3": Family(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}",
        "<s>",
        "<|endoftext|>",
        "<|end|>",
        ("<|system|>", "<|user|>", "<|assistant|>"),
    ),
}

ARCHITECTURES = {
    "llama": ({}, "llama3"),
    "qwen2": ({}, "chatml"),
    "qwen3": ({"head_dim": 8}, "chatml"),
    "mistral": ({"sliding_window": 12}, "mistral"),
    "gemma": ({"head_dim": 8}, "gemma"),
    "gemma2": ({"head_dim": 8, "sliding_window": 12}, "gemma"),
    "gemma3_text": (
        {"head_dim": 8, "sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"]},
        "gemma",
    ),
    "phi3": ({}, "phi3"),
}
"""Architecture -> (what its config needs beyond the common sizes, its usual template family)."""

_TEXTS = [
    "the fox carries a lantern to the mill and counts the stones",
    "Sure, here is how to polish a brass bell with chalk.",
    "Sorry, I will not paint the gate. Ask me about the garden.",
    "You are a careful clerk. system user assistant model INST SYS",
]


@cache
def tiny_tokenizer(family: str = "chatml") -> PreTrainedTokenizerFast:
    """Return the tokenizer of a template family, trained on four sentences; treat it as read-only."""
    kind = FAMILIES[family]
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    if kind.pieces:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = sorted({chr(c) for c in range(33, 127)} | {"\n", "▁"})
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = list(dict.fromkeys(["<pad>", kind.bos, kind.eos, kind.end, *kind.others]))
    trainer = trainers.BpeTrainer(
        vocab_size=384, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_TEXTS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token=kind.bos,
        eos_token=kind.eos,
        additional_special_tokens=special[3:],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = kind.template
    return fast


def tiny_model(architecture: str = "llama", family: str | None = None, *, seed: int = 0, **overrides: object):
    """Return a random model (2 layers, width 32) in eval mode; the same seed gives the same weights."""
    special, usual = ARCHITECTURES[architecture]
    tokenizer = tiny_tokenizer(family or usual)
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,  # far from uniform, so that rounding does not decide which token is best
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    torch.manual_seed(seed)
    config = CONFIG_MAPPING[architecture](**{**settings, **special, **overrides})
    return AutoModelForCausalLM.from_config(config).eval()


def tiny_loaded(
    architecture: str = "llama", family: str | None = None, *, seed: int = 0, **overrides: object
) -> LoadedModel:
    """Return a tiny model and its tokenizer as :func:`toxoid.engines.loading.load_model` would."""
    model = tiny_model(architecture, family, seed=seed, **overrides)
    tokenizer = tiny_tokenizer(family or ARCHITECTURES[architecture][1])
    identity = {"kind": "local", "architecture": architecture, "seed": seed}
    return LoadedModel(model=model, tokenizer=tokenizer, source=f"tiny-{architecture}", identity=identity)


def save_checkpoint(
    folder: Path,
    architecture: str = "llama",
    family: str | None = None,
    *,
    seed: int = 0,
    **overrides: object,
) -> Path:
    """Write a tiny checkpoint (safetensors, tokenizer, chat template) and return its folder."""
    loaded = tiny_loaded(architecture, family, seed=seed, **overrides)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder
