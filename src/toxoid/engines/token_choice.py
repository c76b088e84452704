"""The choice of tokens: a random stream per continuation, and inverse transform on the model's probabilities."""

from __future__ import annotations

import numpy as np
import torch

from toxoid.errors import ToxoidError

COLDEST = 1e-4
"""Rows of a lower temperature are greedy: the most probable token is certain there, and logits divided by so little
overflow."""


def uniforms(seed: int, index: int, count: int) -> np.ndarray:
    """Return the random stream of continuation ``(seed, index)``: ``count`` float64 in [0, 1), one per token.

    A longer stream begins with the shorter one. Philox is counter-based: streams of different keys are
    independent by construction, however close the keys are.
    """
    key = np.array([seed % 2**64, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def choose_tokens(
    logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, draws: torch.Tensor
) -> torch.Tensor:
    """Return tokens for each row, one per draw, by inverse transform of the cumulated probabilities.

    Args:
        logits: (rows, vocabulary), any float type.
        temperature: (rows,); rows below :data:`COLDEST` take the most probable token whatever the draw.
        top_p: (rows,); only the smallest set of most probable tokens that reaches this mass is kept.
        draws: (rows, count) float64 in [0, 1). The probabilities of a row are computed once for all of them.

    Returns:
        (rows, count) int64. A token of probability 0 is never chosen.

    Raises:
        ToxoidError: A logit is not a number.
    """
    greedy = temperature < COLDEST
    if bool(greedy.all()):
        _check_numbers(logits)
        return logits.argmax(dim=-1, keepdim=True).expand(draws.shape)
    scale = torch.where(greedy, 1.0, temperature)[:, None]
    probabilities = torch.softmax(logits.float() / scale, dim=-1)
    if bool((top_p < 1).any()):
        probabilities = _nucleus(probabilities, top_p)
    cumulated = probabilities.cumsum(dim=-1, dtype=torch.float64)
    total = cumulated[:, -1:]
    _check_numbers(total)  # one NaN among a row's logits makes its total one
    # Strictly below the total, whatever the rounding: the search then ends on a step that goes up.
    point = torch.minimum(draws * total, torch.nextafter(total, torch.zeros_like(total)))
    sampled = torch.searchsorted(cumulated, point, right=True)
    if not bool(greedy.any()):
        return sampled
    return torch.where(greedy[:, None], logits.argmax(dim=-1, keepdim=True), sampled)


def _check_numbers(values: torch.Tensor) -> None:
    if bool(values.isnan().any()):
        raise ToxoidError("the model's logits are not numbers (NaN): its weights are damaged or overflow")


def _nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Return ``probabilities`` (rows, vocabulary) with all but each row's nucleus set to 0.

    A token stays if those more probable do not reach ``top_p`` without it; equally probable ones stay or go
    together, so that no order of ties matters. Rows with ``top_p`` 1 stay whole.
    """
    ordered = _descending(probabilities)
    before = ordered.cumsum(dim=-1, dtype=torch.float64) - ordered
    size = (before < top_p[:, None]).sum(dim=-1, keepdim=True).clamp(min=1)
    least = torch.where((top_p < 1)[:, None], ordered.gather(-1, size - 1), 0.0)
    return probabilities.masked_fill(probabilities < least, 0.0)


def _descending(values: torch.Tensor) -> torch.Tensor:
    if values.device.type == "cpu":  # numpy's vector sort: 30 times faster than torch's on a CPU
        return torch.from_numpy(np.sort(values.numpy(), axis=-1)).flip(-1)
    return values.sort(dim=-1, descending=True).values
