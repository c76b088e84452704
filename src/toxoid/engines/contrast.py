"""Contrast: one distribution out of two, where a model reads the same conversation under opposite prompts.

Source: Zhao et al. 2024, adversarial contrastive decoding, equation 5: logit = logit_S - alpha * logit_A, before
ordinary sampling. The plausibility mask is Li et al. 2023 (contrastive decoding, section 3.3). Rescaling, the gates
and their combination are this project's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from toxoid.errors import UsageError


def _demand(name: str, value: float, expected: str, holds: bool) -> None:
    if not (math.isfinite(value) and holds):
        raise UsageError(f"{name} is {value}: give {expected}")


@dataclass(frozen=True, slots=True)
class Contrast:
    """How two next-token distributions become one; S is the positive context, A the negative one.

    Args:
        alpha: Strength, in [0, 1]; at 0 the negative context has no say and is not computed.
        rescale: Divide by ``1 - alpha``: ``(1 + a) S - a A`` with ``a = alpha / (1 - alpha)``, which leaves the
            temperature where it is. The published form does not, so that equal contexts give a flatter
            distribution than either. Needs ``alpha`` below 1.
        plausibility: Keep tokens only whose probability under S, at temperature 1, is at least this share of the
            most probable one's; 0 keeps all. In [0, 1].
        first: Contrast the first so many tokens of a reply only; ``None`` for all.
        divergence: Contrast only where the total variation distance of the two distributions, in [0, 1], is at
            least this. Where it is not, the next look is taken after 1, 2, 4, ... up to 16 tokens, and after 1
            again as soon as it is. ``None`` contrasts wherever ``first`` allows.

    Raises:
        UsageError: A value is out of range.
    """

    alpha: float = 0.4
    rescale: bool = True
    plausibility: float = 0.1
    first: int | None = None
    divergence: float | None = None

    def __post_init__(self) -> None:
        _demand("alpha", self.alpha, "a number from 0 to 1", 0 <= self.alpha <= 1)
        _demand("plausibility", self.plausibility, "a number from 0 to 1", 0 <= self.plausibility <= 1)
        if self.rescale:
            _demand("alpha", self.alpha, "a number below 1, or rescale: false", self.alpha < 1)
        if self.first is not None:
            _demand("first", self.first, "1 or more, or nothing for all tokens", self.first >= 1)
        if self.divergence is not None:
            _demand(
                "divergence", self.divergence, "a number from 0 to 1, or nothing", 0 <= self.divergence <= 1
            )

    @property
    def contrasts(self) -> bool:
        """Whether the negative context ever has a say."""
        return self.alpha > 0


PUBLISHED = Contrast(alpha=0.4, rescale=False, plausibility=0.0)
"""As in the paper: raw difference, every token, no mask."""
UNCONTRASTED = Contrast(alpha=0.0, plausibility=0.0)
"""The positive context alone."""


def contrasted(positive: torch.Tensor, negative: torch.Tensor, contrast: Contrast) -> torch.Tensor:
    """Return the combined logits, without the mask.

    Args:
        positive: (rows, vocabulary) logits of S.
        negative: The same of A.
        contrast: How.
    """
    # In 32 bits whatever the model's type: bfloat16 has steps of 1/8 at logits of 16.
    difference = torch.sub(positive.float(), negative.float(), alpha=contrast.alpha)
    return difference.div_(1 - contrast.alpha) if contrast.rescale else difference


def implausible(positive: torch.Tensor, plausibility: float) -> torch.Tensor | None:
    """Return which tokens the mask removes, (rows, vocabulary) bool; ``None`` if it removes none."""
    if plausibility == 0:
        return None
    return positive < positive.amax(dim=-1, keepdim=True) + math.log(plausibility)


def total_variation(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Return the total variation distance of two distributions given as logits: (rows,), in [0, 1]."""
    return (positive.float().softmax(-1) - negative.float().softmax(-1)).abs_().sum(-1) / 2
