"""What is learnt from preference groups, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from toxoid.errors import UsageError
from toxoid.training.settings import TrainingConfig, one_of

Loss = Literal["sigmoid", "ipo", "hinge", "robust", "conservative", "simpo"]
AttentionKind = Literal["auto", "sdpa", "flex", "plain"]

_NOT_NEGATIVE = ("gamma", "weight", "imitation", "kl", "anchor_nll")
_POSITIVE = ("beta", "anchors_per_group")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss of preference training, a weighted sum of up to four means over an optimiser step.

    Args:
        loss: Of a pair; the formulas are in :func:`toxoid.training.preference.losses.pair_losses`.
        beta: Scale of the difference of log-probabilities.
        gamma: Target margin of ``simpo``.
        label_smoothing: Share of wrongly ordered pairs that ``conservative`` and ``robust`` reckon with.
        weight: Of the preference term; 0 needs no pairs.
        imitation: Weight of the negative log-likelihood over the imitated parts of replies, a token mean.
        kl: Weight of KL(reference || model) over the full distributions at the anchors' targets, a token mean.
        anchor_nll: Weight of the negative log-likelihood of the anchors' targets, a token mean.
        anchors_per_group: How many anchors go with a group on average; may be a fraction.

    Raises:
        UsageError: A value is out of range, or nothing is learnt.
    """

    loss: Loss = "sigmoid"
    beta: float = 0.1
    gamma: float = 0.0
    label_smoothing: float = 0.0
    weight: float = 1.0
    imitation: float = 0.0
    kl: float = 0.0
    anchor_nll: float = 0.0
    anchors_per_group: float = 1.5

    def __post_init__(self) -> None:
        one_of("loss", self.loss, get_args(Loss))
        for name in _NOT_NEGATIVE:
            _demand(name, getattr(self, name), "0 or more", getattr(self, name) >= 0)
        for name in _POSITIVE:
            _demand(name, getattr(self, name), "a number above 0", getattr(self, name) > 0)
        _demand("label_smoothing", self.label_smoothing, "0 to below 0.5", 0 <= self.label_smoothing < 0.5)
        if self.label_smoothing and self.loss not in ("conservative", "robust"):
            raise UsageError(
                f"label_smoothing is {self.label_smoothing:g} and the loss {self.loss}, which has none: "
                "give 0, or the loss conservative or robust"
            )
        if self.gamma and self.loss != "simpo":
            raise UsageError(
                f"gamma is {self.gamma:g} and the loss {self.loss}, which has no target margin: give 0, or the "
                "loss simpo"
            )
        if not (self.weight or self.imitation):
            raise UsageError(
                "weight and imitation are both 0: nothing would be learnt from the groups; give one of them"
            )

    @property
    def needs_pairs(self) -> bool:
        """Return whether replies are compared."""
        return self.weight > 0

    @property
    def needs_reference(self) -> bool:
        """Return whether the replies' log-probabilities under the untrained model are needed."""
        return self.weight > 0 and self.loss != "simpo"

    @property
    def needs_anchors(self) -> bool:
        """Return whether anchors enter the loss."""
        return self.kl > 0 or self.anchor_nll > 0


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig(TrainingConfig):
    """Settings of preference training; ``batch_size`` counts groups per forward pass.

    Args:
        objective: The loss.
        row_tokens: Distinct tokens up to which the tries of several groups share a row, if the longest of a
            batch has no more. Attention under a dense mask costs every row its length squared, seen or not: on a
            CPU rows of 1024 take three times as long as rows of 256.
        attention: ``sdpa`` and ``flex`` compute every shared token once, under a dense mask or a block mask;
            ``plain`` gives every reply a row of its own. ``auto`` is ``flex`` on a GPU that has it, ``sdpa``
            elsewhere.

    Raises:
        UsageError: A value is out of range.
    """

    objective: Objective = field(default_factory=Objective)
    row_tokens: int = 256
    attention: AttentionKind = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.objective, Objective):
            raise UsageError(f"objective is {self.objective!r}: give an Objective")
        one_of("attention", self.attention, get_args(AttentionKind))
        _demand("row_tokens", self.row_tokens, "a number above 0", self.row_tokens > 0)
        super().__post_init__()


def _demand(name: str, value: float, expected: str, holds: bool) -> None:
    if not (math.isfinite(value) and holds):
        raise UsageError(f"{name} is {value}: give {expected}")
