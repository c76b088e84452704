"""What opposite prompts learn from anchors, and what a student learns from both, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from toxoid.errors import UsageError
from toxoid.training.examples import Example
from toxoid.training.settings import TrainingConfig, one_of

Form: TypeAlias = Literal["lora", "soft-prompt"]
"""What a shield is distilled into."""


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


@dataclass(frozen=True, kw_only=True)
class DistilConfig(TrainingConfig):
    """Settings of a distillation.

    Args:
        form: A LoRA adapter, for which ``mode`` counts as elsewhere, or one soft prompt above frozen weights, for
            which ``mode``, ``lora_rank`` and ``lora_alpha`` have no meaning.
        modules: Linear layers that the LoRA adapter changes, by the end of their names; ``None`` for all but the head.
    """

    form: Form = "lora"
    modules: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("form", self.form, get_args(Form))
        if self.modules is not None and (self.form == "soft-prompt" or self.mode == "full"):
            raise UsageError("modules names layers of a LoRA adapter, and none is trained here: leave it out")

    @property
    def trains_adapter(self) -> bool:
        """Return whether an adapter is trained, and not the model's own weights."""
        return self.form == "soft-prompt" or self.mode != "full"


def without_weights(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without those that have no meaning where the model is frozen."""
    return {
        name: value for name, value in settings.items() if name not in ("mode", "lora_rank", "lora_alpha")
    }
