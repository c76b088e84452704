"""What opposite prompts learn from anchors, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from toxoid.errors import UsageError
from toxoid.training.examples import Example
from toxoid.training.settings import TrainingConfig


@dataclass(frozen=True)
class Anchors:
    """Replies to anchor instructions, sorted by what they are. Prefills are not used.

    Args:
        kept: D_S: replies to safe instructions; both prompts keep to them (L_r).
        refused: D_HR: refusals of harmful instructions. SP learns them; AP is kept from them by unlikelihood.
        complied: D_HA: replies that comply with harmful instructions. AP learns them; SP is kept from them by
            unlikelihood.
        declined: Refusals of contentious but harmless instructions: the two-sided adversarial prompt learns them
            too, so that the contrast pushes away from over-refusal as well. Empty in the published form.
        kept_by_safe: Whether each of ``kept`` is for SP, same length; ``None`` for all of them. A reply to an
            instruction of ``declined`` would teach AP the opposite of it.
        kept_by_opposite: The same for AP.
    """

    kept: tuple[Example, ...]
    refused: tuple[Example, ...]
    complied: tuple[Example, ...]
    declined: tuple[Example, ...] = ()
    kept_by_safe: tuple[bool, ...] | None = None
    kept_by_opposite: tuple[bool, ...] | None = None

    def __post_init__(self) -> None:
        for name, given in (("safe", self.kept_by_safe), ("opposite", self.kept_by_opposite)):
            if given is not None and len(given) != len(self.kept):
                raise UsageError(
                    f"kept_by_{name} has {len(given)} entries for {len(self.kept)} kept replies: give one for each"
                )


@dataclass(frozen=True, kw_only=True)
class PromptObjective:
    """The losses of both prompts: sums of token means over the sets (Zhao et al. 2024, equations 3 and 4).

    L_SP = L_p + u L_n + L_r and L_AP = L_p' + u L_n' + L_r + L_d, where L_d is the two-sided prompt's (ours).

    Args:
        unlikelihood: Weight u of -log(1 - P) over the tokens of the replies that a prompt shall not give; 1 as
            published, 0 leaves the terms out (ours: it attacks every token that both kinds of reply share).
        clamp: 1 - P counts as at least this in the logarithm.
    """

    unlikelihood: float = 0.0
    clamp: float = 1e-6

    def __post_init__(self) -> None:
        if not (math.isfinite(self.unlikelihood) and self.unlikelihood >= 0):
            raise UsageError(f"unlikelihood is {self.unlikelihood}: give 0 or more")
        if not 0 < self.clamp < 1:
            raise UsageError(f"clamp is {self.clamp}: give a number between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class PromptConfig(TrainingConfig):
    """Settings of opposite prompt optimisation.

    ``batch_size`` counts examples *of each set* per step. ``mode``, ``lora_rank`` and ``lora_alpha`` have no meaning
    here: the model is frozen.

    Args:
        objective: The losses.
        tokens: Length of both prompts; ``None`` for the longer of the two manual prompts they begin from.
    """

    objective: PromptObjective = field(default_factory=PromptObjective)
    tokens: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens is not None and self.tokens < 1:
            raise UsageError(
                f"tokens is {self.tokens}: give 1 or more, or nothing for the manual prompts' length"
            )
