"""What RLHF learns from, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from toxoid.data.schemas import Conversation
from toxoid.errors import UsageError
from toxoid.training.settings import TrainingConfig, demand_package


@dataclass(frozen=True)
class Pair:
    """Two replies in the same place, of which the first is better.

    Args:
        conversation: Closed turns; the last one is the user's.
        chosen: The better reply.
        rejected: The worse one.
        kind: What is wrong with the worse one; accuracies are told by it.
    """

    conversation: Conversation
    chosen: str
    rejected: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class RLHFObjective:
    """How the reward model is trained and how the policy is rewarded.

    Args:
        reward_epochs: Passes of the reward model over its pairs.
        reward_learning_rate: Its highest learning rate; its head is new, and needs more than the policy.
        generations: Replies per prompt, each of them the others' baseline.
        kl: Weight of KL(policy || untreated model), summed over a reply and subtracted from its reward. Rewards
            are in standard deviations of the reward model's over the replies of its pairs.
        max_tokens: Of a reply.

    Raises:
        UsageError: A value is out of range.
    """

    reward_epochs: int = 2
    reward_learning_rate: float = 3e-4
    generations: int = 4
    kl: float = 0.05
    max_tokens: int = 128

    def __post_init__(self) -> None:
        if self.generations < 2:
            raise UsageError(
                f"generations is {self.generations}: give 2 or more, each reply is compared with the others"
            )
        for name in ("reward_epochs", "max_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}: give 1 or more")
        if not (math.isfinite(self.reward_learning_rate) and self.reward_learning_rate > 0):
            raise UsageError(f"reward_learning_rate is {self.reward_learning_rate}: give a number above 0")
        if not (math.isfinite(self.kl) and self.kl >= 0):
            raise UsageError(f"kl is {self.kl}: give 0 or more")


@dataclass(frozen=True, kw_only=True)
class RLHFConfig(TrainingConfig):
    """Settings of RLHF.

    Epochs and steps are the policy's: an epoch takes ``generations`` replies to each prompt. ``batch_size`` counts
    replies of the policy, and pairs of the reward model.

    Raises:
        UsageError: A value is out of range, or a step would cut the replies to a prompt apart.
    """

    objective: RLHFObjective = field(default_factory=RLHFObjective)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode == "qlora":  # TRL makes what is trained above 4 bits bfloat16, the classifier's head too
            raise UsageError("mode is qlora, in which rlhf cannot be trained: give lora or full")
        replies = self.batch_size * self.gradient_accumulation
        if replies % self.objective.generations:
            raise UsageError(
                f"batch_size x gradient_accumulation is {replies}, and a prompt has "
                f"{self.objective.generations} replies (generations): give a multiple of that"
            )

    @property
    def prompts_per_step(self) -> int:
        """Return how many prompts an optimiser step of the policy sees."""
        return self.batch_size * self.gradient_accumulation // self.objective.generations


def demand_trl() -> None:
    """Refuse to go on without TRL.

    Raises:
        UsageError: It is not installed.
    """
    for name in ("trl", "datasets"):
        demand_package(name, extra="rlhf", what="the method rlhf")
