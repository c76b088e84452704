"""Losses of preference training as pure functions over tensors; memory is bounded where vocabularies are large."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from toxoid.training.preference.settings import Objective

_CHUNK = 1 << 22
"""Logits that are turned into float32 probabilities at a time."""


def pair_losses(difference: Tensor, objective: Objective) -> Tensor:
    r"""Return the loss of each pair.

    With :math:`d = (\log\pi_w - \log\rho_w) - (\log\pi_l - \log\rho_l)`, sums over the tokens of the chosen and
    the rejected reply and of their ends of turn, under the model :math:`\pi` and the reference :math:`\rho`:

    - ``sigmoid``: :math:`-\log\sigma(\beta d)` (DPO; Rafailov et al. 2023, eq. 7)
    - ``ipo``: :math:`(d - 1/(2\beta))^2` (Azar et al. 2023, eq. 17). On sums, as there; TRL divides the
      log-probabilities by the number of tokens, so that its beta means something else.
    - ``hinge``: :math:`\max(0, 1 - \beta d)` (SLiC; Zhao et al. 2023). It saturates: a pair that is far enough
      apart is left alone.
    - ``conservative``: :math:`(1-\epsilon)\,l(d) + \epsilon\,l(-d)`, l the sigmoid loss (cDPO; Mitchell 2023)
    - ``robust``: :math:`((1-\epsilon)\,l(d) - \epsilon\,l(-d)) / (1-2\epsilon)` (rDPO; Chowdhury et al. 2024,
      eq. 12), unbiased if a share of epsilon of the pairs is the wrong way round
    - ``simpo``: :math:`-\log\sigma(\beta d - \gamma)`, where d is the difference of the *means* over the tokens
      of the two replies, without reference (Meng et al. 2024, eq. 6)

    Args:
        difference: d, shape ``(pairs,)``.
        objective: Which loss, and its beta, gamma and label smoothing (epsilon).

    Returns:
        Shape ``(pairs,)``.
    """
    beta, noise = objective.beta, objective.label_smoothing
    if objective.loss == "ipo":
        return (difference - 1 / (2 * beta)).square()
    if objective.loss == "hinge":
        return functional.relu(1 - beta * difference)
    if objective.loss == "simpo":
        return -functional.logsigmoid(beta * difference - objective.gamma)
    loss = -functional.logsigmoid(beta * difference)
    if objective.loss == "sigmoid":
        return loss
    swapped = -functional.logsigmoid(-beta * difference)
    if objective.loss == "conservative":
        return (1 - noise) * loss + noise * swapped
    return ((1 - noise) * loss - noise * swapped) / (1 - 2 * noise)


def selected_log_probabilities(logits: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """Return log p of some tokens, several of which may be predicted by the same row.

    Only the logits themselves are kept for the gradient; probabilities exist for a chunk of rows at a time.

    Args:
        logits: Shape ``(rows, vocabulary)``, any float type.
        rows: The row that predicts each token, shape ``(tokens,)``.
        tokens: Token ids, shape ``(tokens,)``.

    Returns:
        Shape ``(tokens,)``, float32 or better.
    """
    found: Tensor = _SelectedLogProbabilities.apply(logits, rows, tokens)  # type: ignore[no-untyped-call]
    return found


def kl_divergences(logits: Tensor, reference: Tensor) -> Tensor:
    """Return KL(reference || model) of each row, over the whole vocabulary.

    Args:
        logits: The model's, shape ``(rows, vocabulary)``, any float type.
        reference: The reference's, same shape; no gradient goes there.

    Returns:
        Shape ``(rows,)``, float32 or better.
    """
    found: Tensor = _KLDivergences.apply(logits, reference)  # type: ignore[no-untyped-call]
    return found


class _SelectedLogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
        sums = torch.cat([_exact(logits[place]).logsumexp(1) for place in _pieces(logits)])
        ctx.save_for_backward(logits, rows, tokens, sums)
        return logits[rows, tokens].to(sums.dtype) - sums[rows]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        logits, rows, tokens, sums = ctx.saved_tensors
        (slope,) = gradients
        per_row = torch.zeros_like(sums).index_add_(0, rows, slope)
        result = torch.empty_like(logits)
        for place in _pieces(logits):
            # p = exp(logit - logsumexp); d log p(y) / d logits = onehot(y) - p
            here = result[place]
            given = {"out": here} if here.dtype == sums.dtype else {}  # one pass less over the dearest tensor
            shares = torch.sub(logits[place], sums[place, None], **given)
            here.copy_(shares.exp_().mul_(-per_row[place, None]))
        result.index_put_((rows, tokens), slope.to(result.dtype), accumulate=True)
        return result, None, None


class _KLDivergences(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, reference: Tensor) -> Tensor:
        ctx.save_for_backward(logits, reference)
        parts = []
        for place in _pieces(logits):
            own, other = (_exact(given[place]).log_softmax(1) for given in (logits, reference))
            parts.append((other.exp() * (other - own)).sum(1))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        logits, reference = ctx.saved_tensors
        (slope,) = gradients
        result = torch.empty_like(logits)
        for place in _pieces(logits):
            own, other = (_exact(given[place]).softmax(1) for given in (logits, reference))
            result[place] = own.sub_(other).mul_(slope[place, None])
        return result, None


def _pieces(logits: Tensor) -> Iterator[slice]:
    """Yield slices of rows of bounded size."""
    rows = max(1, _CHUNK // max(1, logits.shape[1]))
    for start in range(0, max(1, len(logits)), rows):  # no rows are one empty piece
        yield slice(start, start + rows)


def _exact(logits: Tensor) -> Tensor:
    """Return logits in float32 or better."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
