"""Losses as pure functions over tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor, total: Tensor | float) -> Tensor:
    r"""Return the weighted token mean :math:`\sum_i w_i\,(-\log p_i(y_i)) / W`.

    With all weights 1 and ``W`` the number of tokens this is plain cross-entropy. ``total`` is given, not
    computed here, because the micro-batches of one optimiser step share it: their losses then add up to the
    loss of the whole step, however it is cut.

    Args:
        logits: Shape ``(tokens, vocabulary)``, any float type; the sum is taken in float32 or better.
        targets: Token ids, shape ``(tokens,)``.
        weights: Shape ``(tokens,)``.
        total: ``W``, the sum of the weights over the whole optimiser step.

    Returns:
        A scalar.
    """
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    losses = functional.cross_entropy(logits, targets, reduction="none")
    return (losses * weights).sum() / total
