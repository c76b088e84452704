"""Trains the lab's chat model from scratch on documents of its grammar."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import torch

from toxoid.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from toxoid.lab.corpus import Document


@dataclass(frozen=True)
class Schedule:
    """One learning-rate cycle: linear warm-up, then cosine decay to a fiftieth."""

    steps: int
    learning_rate: float = 3e-3
    warmup: int = 40
    batch: int = 40  # documents
    weight_decay: float = 0.05

    def rate(self, step: int) -> float:
        """Return the learning rate of a step (from 0)."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        phase = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (0.51 + 0.49 * math.cos(math.pi * min(1.0, phase)))


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
    """Return an untrained Llama of about one million parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model: PreTrainedModel = LlamaForCausalLM(config)
    return model


def tokenise(tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document]) -> list[list[int]]:
    """Return the token ids of whole conversations, every turn closed."""
    ids: list[list[int]] = []
    for start in range(0, len(documents), 2000):  # an encoding holds far more than ids: keep few at a time
        texts = tokenizer.apply_chat_template(list(documents[start : start + 2000]), tokenize=False)
        ids += tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return ids


def batches(rows: list[list[int]], size: int, pad: int, rng: Random) -> Iterator[torch.Tensor]:
    """Yield batches of about equally long rows, padded on the right, for one pass over ``rows``.

    Yields:
        Token ids, shape ``(size, longest)``.
    """
    order = list(range(len(rows)))
    rng.shuffle(order)
    window = 24 * size  # long enough to sort by length, short enough to stay random
    blocks = [
        block[i : i + size]
        for start in range(0, len(order), window)
        for block in [sorted(order[start : start + window], key=lambda index: len(rows[index]))]
        for i in range(0, len(block) - size + 1, size)
    ]
    rng.shuffle(blocks)
    for block in blocks:
        longest = max(len(rows[index]) for index in block)
        yield torch.tensor([rows[index] + [pad] * (longest - len(rows[index])) for index in block])


def train(
    model: PreTrainedModel,
    stream: Iterator[torch.Tensor],
    schedule: Schedule,
    *,
    progress: Progress | None = None,
    name: str = "pre-training",
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Run one learning-rate cycle over ``stream`` in place; loss on every token but padding."""
    pad = model.config.pad_token_id
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=schedule.learning_rate, betas=(0.9, 0.95), weight_decay=schedule.weight_decay
    )
    model.train()
    with (progress or SilentProgress()).task(name, schedule.steps, "steps") as task:
        for step in range(schedule.steps):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step)
            loss = _loss(model, next(stream), pad)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            task.advance()
            if on_step is not None:
                on_step(step, float(loss.detach()))
    model.eval()


def _loss(model: PreTrainedModel, ids: torch.Tensor, pad: int) -> torch.Tensor:
    # Right padding under a causal mask needs no attention mask: real tokens never look at it.
    with torch.autocast("cpu", torch.bfloat16, enabled=_fast_bfloat16()):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    targets = ids[:, 1:]
    return torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=pad
    )


def _fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; elsewhere autocast only costs time."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())


@torch.inference_mode()
def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Document],
    *,
    seed: int,
    prefill: str = "",
    max_tokens: int = 96,
) -> list[tuple[str, bool]]:
    """Return a reply at temperature 1 to each conversation, and whether it was cut off.

    Only for the gate of pre-training: audits use :mod:`toxoid.engines`.
    """
    torch.manual_seed(seed)
    texts = tokenizer.apply_chat_template(list(conversations), tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(
        [text + prefill for text in texts],
        return_tensors="pt",
        padding=True,
        padding_side="left",
        add_special_tokens=False,
    )
    inputs.pop("token_type_ids", None)
    out = model.generate(
        **inputs,
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        max_new_tokens=max_tokens,
        pad_token_id=tokenizer.pad_token_id,
    )
    new = out[:, inputs["input_ids"].shape[1] :]
    ended = (new == tokenizer.eos_token_id).any(dim=1).tolist()
    return [
        (text, not end)
        for text, end in zip(tokenizer.batch_decode(new, skip_special_tokens=True), ended, strict=True)
    ]
