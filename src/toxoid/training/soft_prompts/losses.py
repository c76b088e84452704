"""Losses of opposite prompts as pure functions over token log-probabilities."""

from __future__ import annotations

from torch import Tensor


def likelihood_losses(log_probabilities: Tensor) -> Tensor:
    r"""Return :math:`-\log P(y_t)` of each token (Zhao et al. 2024: L_p and L_r).

    Args:
        log_probabilities: Any shape.
    """
    return -log_probabilities


def unlikelihood_losses(log_probabilities: Tensor, clamp: float) -> Tensor:
    r"""Return :math:`-\log \max(1 - P(y_t), c)` of each token (Zhao et al. 2024: L_n; Welleck et al. 2020, eq. 4).

    A token whose 1 - P is below the clamp c has a constant loss and no gradient.

    Args:
        log_probabilities: Any shape.
        clamp: c, above 0.
    """
    return -(-log_probabilities.expm1()).clamp(min=clamp).log()


def term_means(losses: Tensor, weights: Tensor, terms: Tensor, totals: Tensor) -> Tensor:
    r"""Return the weighted token mean of each term, :math:`\sum_{i \in k} w_i l_i / W_k`; shape ``(terms,)``.

    Args:
        losses: Of each token, shape ``(tokens,)``.
        weights: Of each token, same shape.
        terms: The term that each token belongs to, same shape.
        totals: W, the sums of the weights over the whole optimiser step, shape ``(terms,)``; where one is 0, so is
            the mean.
    """
    sums = losses.new_zeros(len(totals)).index_add(0, terms, losses * weights)
    return sums / totals.where(totals > 0, 1.0)
