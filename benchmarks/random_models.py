"""Models of random weights, for benchmarks of speed: a Llama and a tokenizer of whole words ``w0``, ``w1``, ..."""

from __future__ import annotations

from typing import Any

SPECIALS = ("<pad>", "<s>", "<|end|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{{ '<s>' }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def random_llama(vocabulary: int, *, intermediate: int, positions: int) -> Any:
    """Return a Llama of 8 layers, 384 wide, always the same for the same arguments."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=384,
        intermediate_size=intermediate,
        num_hidden_layers=8,
        num_attention_heads=6,
        max_position_embeddings=positions,
        pad_token_id=SPECIALS.index("<pad>"),
        bos_token_id=SPECIALS.index("<s>"),
        eos_token_id=SPECIALS.index("<|end|>"),
    )
    return LlamaForCausalLM(config).eval()


def word_tokenizer(vocabulary: int) -> Any:
    """Return a tokenizer with a chat template, the special tokens and as many words as make up the vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [*SPECIALS, *(f"w{index}" for index in range(vocabulary - len(SPECIALS)))]
    raw = Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<|end|>",
        additional_special_tokens=list(SPECIALS[3:]),
        chat_template=TEMPLATE,
    )
