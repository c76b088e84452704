"""Attention of single tokens on a CPU, in 32 bits.

In bfloat16 ``torch``'s kernel for CPUs takes three times as long for one token per row as in float32, the conversion of
all keys and values included. That is a large part of a decoding step: more than half of it in a batch of 16.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "toxoid_rows"
_TOGETHER = 2
"""Rows converted at once, so few that what was converted is still in the cache of the processor when it is read."""


def row_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend from one token per row, as ``transformers``' ``sdpa`` does; from more, call it.

    Args:
        module: The attention layer.
        query: (rows, heads, tokens, size of a head).
        key: (rows, key heads, columns, size of a head).
        value: Of the same shape.
        attention_mask: (rows, 1 or heads, tokens, columns), or ``None``.
        options: What ``sdpa`` takes besides.

    Returns:
        (rows, tokens, heads, size of a head), in the type of ``query``; and ``None``, in the place of weights.
    """
    if query.shape[2] > 1:
        whole: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **options
        )
        return whole
    parts = []
    for first in range(0, len(query), _TOGETHER):
        rows = slice(first, first + _TOGETHER)
        states = (states[rows].float() for states in (query, key, value))
        mask = None if attention_mask is None else attention_mask[rows]
        parts.append(sdpa_attention_forward(module, *states, mask, **options)[0])
    return torch.cat(parts).to(query.dtype), None


AttentionInterface.register(_NAME, row_attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)


@contextmanager
def faster_attention(model: Any) -> Iterator[None]:
    """Let a model attend by :func:`row_attention` where that is faster: in bfloat16 on a CPU, in place of ``sdpa``."""
    config = model.config.get_text_config()
    if config._attn_implementation != "sdpa" or model.device.type != "cpu" or model.dtype != torch.bfloat16:
        yield
        return
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"
